"""Guessing an image's format from its first sector, with QEMU's rules."""

from __future__ import annotations

import re

PROBE_SIZE = 2048
_DESCRIPTOR = re.compile(
    rb"\A(?:[ \t\r]*\n|#[^\n]*\n)*version=[0-9]+(?:\r?\n|\Z)", re.IGNORECASE)


def probe_format(head: bytes, filename: str) -> str:
    """The best-scoring format for an image that begins with ``head``."""
    for name, offset, magic in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return name
    if head[:4] == b"QFI\xfb" and len(head) >= 8:
        return "qcow" if int.from_bytes(head[4:8], "big") == 1 else "qcow2"
    if _DESCRIPTOR.match(head) and b"# Disk DescriptorFile" in head[:512]:
        return "vmdk"
    if filename.endswith(".dmg"):
        return "dmg"
    return "raw"


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
