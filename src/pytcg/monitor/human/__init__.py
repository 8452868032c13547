"""The human monitor: commands in QEMU's words, each a row of a table."""
