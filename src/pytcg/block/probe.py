"""Guessing an image's format from its first sector, with QEMU's rules."""

from __future__ import annotations

PROBE_SIZE = 2048


def probe_format(head: bytes, filename: str) -> str:
    """The best-scoring format for an image that begins with ``head``."""
    for name, offset, magic in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return name
    if head[:4] == b"QFI\xfb" and len(head) >= 8:
        return "qcow" if int.from_bytes(head[4:8], "big") == 1 else "qcow2"
    if b"# Disk DescriptorFile" in head[:512] and _begins_with_version(head):
        return "vmdk"
    if filename.endswith(".dmg"):
        return "dmg"
    return "raw"


def _begins_with_version(head: bytes) -> bool:
    """Whether `version=` and a number are the first line that is neither blank nor a comment."""
    for line in head.splitlines():
        if line.strip() and not line.startswith(b"#"):
            name, _, number = line.partition(b"=")
            return name.lower() == b"version" and number.isdigit()
    return False


_MAGICS = (
    ("qed", 0, b"QED\0"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
)
