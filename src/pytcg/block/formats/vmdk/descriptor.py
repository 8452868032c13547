"""The text of a VMDK image: what the disk is made of, its parent, its content's identity."""

from __future__ import annotations

import errno
import random
import re

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.typed import NamedTuple

MAX_DESCRIPTOR = 1 << 20
NO_PARENT = 0xFFFFFFFF
# Of the descriptors that are files of their own.
CREATE_TYPES = ("monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse",
                "twoGbMaxExtentFlat")
EXTENT_TYPES = ("FLAT", "SPARSE", "VMFS", "VMFSSPARSE", "SESPARSE")
_EXTENT = re.compile(r'RW\s+(-?[0-9]+)\s+(\S{1,10})\s+"([^\n\r"]{1,511})"(?:\s+(-?[0-9]+))?')
_CID = re.compile(rb"(?m)^CID=([0-9a-fA-F]{1,8})")


class ExtentLine(NamedTuple):
    """One extent; ``offset`` into a flat file in sectors."""

    sectors: int
    type: str
    name: str
    offset: int


class Descriptor(NamedTuple):
    """The parsed text."""

    values: dict[str, str]
    extents: list[ExtentLine]

    @property
    def create_type(self) -> str:
        """monolithicSparse and so on."""
        return self.values.get("createType", "")

    def cid(self, key: str) -> int:
        """CID or parentCID."""
        try:
            return int(self.values.get(key, "ffffffff"), 16)
        except ValueError:
            raise ImageFormatError(f"Invalid {key} in VMDK descriptor") from None


def parse_descriptor(text: bytes) -> Descriptor:
    """Read a descriptor; ImageFormatError for an extent line that says nonsense."""
    values: dict[str, str] = {}
    extents = []
    for line in text.split(b"\0")[0].decode(errors="surrogateescape").split("\n"):
        found = _EXTENT.match(line)
        if found:
            extent = _extent(line, *found.groups())
            if extent is not None:
                extents.append(extent)
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip().strip('"')
    return Descriptor(values, extents)


def _extent(line: str, sectors: str, kind: str, name: str, offset: str | None
            ) -> ExtentLine | None:
    start = int(offset) if offset is not None else 0
    if start < 0 or (offset is None) == (kind == "FLAT"):
        raise ImageFormatError(f"Invalid extent line: {line}")
    if int(sectors) <= 0 or int(sectors) >> 54 or start >> 54 or kind not in EXTENT_TYPES:
        return None
    return ExtentLine(int(sectors), kind, name, start)


def check_create_type(descriptor: Descriptor) -> None:
    """Refuse a descriptor file of a kind that has no extents to open."""
    if "createType" not in descriptor.values:
        raise ImageFormatError("invalid VMDK image descriptor")
    if descriptor.create_type not in CREATE_TYPES:
        raise NotSupported(f"Unsupported image type '{descriptor.create_type}'")


def renew_cid(file: BlockDevice, offset: int, length: int) -> None:
    """Give the content a new identity, so that overlays of the old one notice."""
    found = _CID.search(file.pread(offset, length))
    if found is None:
        raise BlockError("Invalid VMDK descriptor", errno.EINVAL)
    digits = len(found[1])
    low = 16 ** (digits - 1)
    fresh = random.randrange(low, 16 * low - 1)  # as long as the old one, never NO_PARENT
    file.pwrite(offset + found.start(1), f"{fresh:x}".encode())
