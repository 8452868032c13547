"""IDENTIFY's structures and the log pages (NVMe 1.4, 5.14 and 5.15)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PAGE: Final = 4096
SECTOR: Final = 512
VERSION: Final = 0x00010400
MDTS: Final = 7  # 2^7 pages of 4 KiB: the longest transfer
MAX_TRANSFER: Final = PAGE << MDTS
IEEE: Final = bytes.fromhex("005452")
KELVIN: Final = 323  # its temperature
WARNING: Final = 343
CRITICAL: Final = 373


@dataclass(frozen=True)
class Identity:
    """Names that software shows."""

    serial: str
    model: str = "QEMU NVMe Ctrl"
    firmware: str = "1.0"


def _put(page: bytearray, at: int, data: bytes) -> None:
    page[at : at + len(data)] = data


def _text(text: str, length: int) -> bytes:
    return text.encode("ascii", "replace")[:length].ljust(length)


def controller(identity: Identity, vendor: int, subsystem: int, namespaces: int) -> bytes:
    """Identify Controller."""
    page = bytearray(PAGE)
    _put(page, 0, struct.pack("<HH", vendor, subsystem))
    _put(page, 4, _text(identity.serial, 20) + _text(identity.model, 40)
         + _text(identity.firmware, 8))
    page[72] = 6  # recommended arbitration burst
    _put(page, 73, IEEE)
    page[77] = MDTS
    _put(page, 80, struct.pack("<L", VERSION))
    page[111] = 1  # an I/O controller
    page[258:264] = bytes((3, 3, 3, 0, 0, 0))  # abort limit 4, events 4, one read-only slot
    _put(page, 266, struct.pack("<HH", WARNING, CRITICAL))
    _put(page, 512, struct.pack("<BBHLH", 0x66, 0x44, 0, namespaces, 0x000D))
    page[525] = 1  # a volatile write cache
    _put(page, 536, struct.pack("<L", 0x10001))  # SGLs of any alignment, and bit buckets
    _put(page, 768, f"nqn.2019-08.org.qemu:{identity.serial}".encode("ascii", "replace")[:255])
    _put(page, 2048, struct.pack("<H14xLL", 0x9C4, 0x10, 0x4))  # one power state, 25 W
    return bytes(page)


def namespace(sectors: int, *, read_only: bool) -> bytes:
    """Identify Namespace, of 512-byte blocks."""
    page = bytearray(PAGE)
    _put(page, 0, struct.pack("<QQQ", sectors, sectors, sectors))
    page[33] = 0x09  # deallocated blocks read as zeroes
    page[99] = int(read_only)
    _put(page, 128, struct.pack("<L", 9 << 16))  # format 0: 2^9 bytes
    return bytes(page)


def active(numbers: Iterable[int]) -> bytes:
    """The Active Namespace ID list."""
    first = sorted(numbers)[: PAGE // 4]
    return struct.pack(f"<{len(first)}L", *first).ljust(PAGE, b"\0")


def descriptors(name: str) -> bytes:
    """The Namespace Identification Descriptor list: a UUID made from a name, and a command set."""
    from uuid import NAMESPACE_OID, uuid5

    body = bytes((3, 16, 0, 0)) + uuid5(NAMESPACE_OID, name).bytes + bytes((4, 1, 0, 0, 0))
    return body.ljust(PAGE, b"\0")


def health(read: int, written: int, reads: int, writes: int) -> bytes:
    """SMART / Health Information; data in bytes, counted in thousands of blocks."""
    page = bytearray(SECTOR)
    _put(page, 1, struct.pack("<HBB", KELVIN, 100, 10))
    for at, value in ((32, -(-read // 512000)), (48, -(-written // 512000)), (64, reads),
                      (80, writes)):  # fmt: skip
        _put(page, at, value.to_bytes(16, "little"))
    return bytes(page)


def firmware_slots(identity: Identity) -> bytes:
    """Firmware Slot Information."""
    return (b"\x01" + bytes(7) + _text(identity.firmware, 8)).ljust(SECTOR, b"\0")
