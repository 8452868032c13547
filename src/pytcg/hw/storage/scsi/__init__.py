"""SCSI: what disks and CD-ROMs do with a command block, whatever bus it came by."""
