"""Floppy disks: drives, and the 82077AA controller in front of two of them."""
