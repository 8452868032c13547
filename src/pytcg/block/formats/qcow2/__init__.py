"""QEMU's copy-on-write format, whole."""
