"""IDENTIFY DEVICE's 256 words, for disks and for packet devices (ATA/ATAPI-7, 6.17 and 6.18)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pytcg.hw.storage.ata import AtaDisk

MAX_CYLINDERS: Final = 16383
MULTIPLE: Final = 16


@dataclass(frozen=True)
class DiskIdentity:
    """Names that software shows."""

    serial: str = "QM00001"
    model: str = "QEMU HARDDISK"
    firmware: str = "2.5+"
    world_wide_name: int = 0


class Geometry(NamedTuple):
    """Cylinders, heads, sectors a track."""

    cylinders: int
    heads: int
    sectors: int

    @classmethod
    def of(cls, sectors: int) -> Geometry:
        """What a disk of so many sectors says by default."""
        return cls(max(2, min(MAX_CYLINDERS, sectors // (16 * 63))), 16, 63)


def ata_string(text: str, length: int) -> bytes:
    """Padded with blanks; the bytes of each word are swapped."""
    raw = text.encode("ascii", "replace")[:length].ljust(length)
    return b"".join(raw[at : at + 2][::-1] for at in range(0, length, 2))


class Words:
    """256 words by number."""

    def __init__(self) -> None:
        self._words = [0] * 256

    def set(self, number: int, *values: int) -> None:
        """Consecutive words."""
        self._words[number : number + len(values)] = values

    def set_text(self, number: int, text: str, length: int) -> None:
        """A string."""
        self.set(number, *struct.unpack(f"<{length // 2}H", ata_string(text, length)))

    def set_number(self, number: int, value: int, words: int) -> None:
        """A number, least significant word first."""
        self.set(number, *(value >> 16 * index & 0xFFFF for index in range(words)))

    def bytes(self) -> bytes:
        """With the integrity word at the end."""
        self._words[255] = 0x00A5
        data = bytearray(struct.pack("<256H", *self._words))
        data[511] = -sum(data) & 0xFF
        return bytes(data)


def _dma_mode(words: Words, selected: int) -> None:
    multiword, ultra = 0x0007, 0x003F
    if selected >> 3 == 8:
        ultra |= 0x100 << (selected & 7)
    else:
        multiword |= 0x100 << (selected & 7)
    words.set(63, multiword)
    words.set(64, 0x0003, 120, 120, 120, 120)  # PIO 3 and 4; cycle times in ns
    words.set(88, ultra)
    words.set(93, 0x6001 | 0x2000)  # 80-conductor cable, device 0 passed


def _names(words: Words, identity: DiskIdentity) -> None:
    words.set_text(10, identity.serial, 20)
    words.set_text(23, identity.firmware, 8)
    words.set_text(27, identity.model, 40)
    if identity.world_wide_name:
        words.set(108, *(identity.world_wide_name >> shift & 0xFFFF for shift in (48, 32, 16, 0)))


def identify_disk(disk: AtaDisk) -> bytes:
    """IDENTIFY DEVICE."""
    words = Words()
    cylinders, heads, sectors = disk.default_geometry
    words.set(0, 0x0040, cylinders, 0, heads, 512 * sectors, 512, sectors)
    _names(words, disk.identity)
    words.set(20, 3, 512, 4)
    words.set(47, 0x8000 | MULTIPLE, 1, 0x0B00)
    words.set(51, 0x0200, 0x0200, 0x0007)
    now = disk.geometry
    words.set(54, *now)
    words.set_number(57, min(now.cylinders * now.heads * now.sectors, (1 << 32) - 1), 2)
    words.set(59, 0x0100 | disk.multiple if disk.multiple else 0)
    words.set_number(60, min(disk.sectors, (1 << 28) - 1), 2)
    _dma_mode(words, disk.dma_mode)
    words.set(69, 0x4020)  # reads of trimmed blocks are the same each time, and zero
    if disk.queue_depth:
        words.set(75, disk.queue_depth - 1, 0x0102)  # queuing, Serial ATA's first speed
        words.set(93, 0)
    words.set(80, 0x00F0, 0x0016)  # ATA-4 to ATA-7
    wwn = 0x0100 if disk.identity.world_wide_name else 0
    cache = 0x0020 if disk.write_cache else 0
    words.set(82, 0x4021, 0x7400, 0x4040 | 0x0002 | wwn)
    words.set(85, 0x4001 | cache, 0x3400, 0x4040 | 0x0002 | wwn)
    words.set_number(100, disk.sectors, 4)
    words.set(106, 0x6000)
    words.set(169, 1)  # DATA SET MANAGEMENT's trim
    words.set(217, 1)  # it does not rotate
    return words.bytes()


def identify_packet(identity: DiskIdentity, dma_mode: int) -> bytes:
    """IDENTIFY PACKET DEVICE of a CD-ROM drive that takes 12-byte packets."""
    words = Words()
    words.set(0, 0x85C0)
    _names(words, identity)
    words.set(48, 1, 0x0B00)
    words.set(53, 0x0007)
    _dma_mode(words, dma_mode)
    words.set(71, 30, 30)
    words.set(80, 0x00F0, 0x0016)
    words.set(82, 0x4010, 0x4000, 0x4000)
    words.set(85, 0x4010, 0x4000, 0x4000)
    return words.bytes()
