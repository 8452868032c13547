"""QEMU's enhanced disk."""
