"""What a device sends: frame information structures (SATA 3.0, 10.3)."""

from __future__ import annotations

from typing import Final

from pytcg.hw.storage.ide_drive import READY, IdeDrive

DEVICE_TO_HOST: Final = 0x34
PIO_SETUP: Final = 0x5F
SET_DEVICE_BITS: Final = 0xA1
INTERRUPT: Final = 0x40
TO_HOST: Final = 0x20
NO_BUSY: Final = 0x77  # a status without BSY and DRQ


def _registers(kind: int, flags: int, drive: IdeDrive) -> bytes:
    low, high = zip(*drive.lba, strict=True)
    return bytes((kind, flags, drive.status, drive.error, *low, drive.device, *high, 0,
                  *drive.count))  # fmt: skip


def device_to_host(drive: IdeDrive, *, interrupt: bool) -> bytes:
    """The drive's registers."""
    return _registers(DEVICE_TO_HOST, INTERRUPT if interrupt else 0, drive) + bytes(6)


def pio_setup(drive: IdeDrive, length: int) -> bytes:
    """Before a block of data to the host."""
    counts = bytes((0, READY)) + (length & 0xFFFF).to_bytes(2, "little") + bytes(2)
    return _registers(PIO_SETUP, INTERRUPT | TO_HOST, drive) + counts


def set_device_bits(status: int, error: int, done: int) -> bytes:
    """Queued commands have ended: a bit for each."""
    return bytes((SET_DEVICE_BITS, INTERRUPT, status & NO_BUSY, error)) + done.to_bytes(4, "little")
