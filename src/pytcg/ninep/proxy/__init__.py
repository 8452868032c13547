"""A helper with rights serves files to an emulator without: QEMU's proxy protocol, both ends."""
