"""fw_cfg: items by port and by DMA, and the list of files."""

from __future__ import annotations

import struct

import pytest

from pytcg.hw.chipset.fw_cfg import FwCfg, Key
from pytcg.hw.pci.device import DmaError


class Memory:
    """64 KiB."""

    def __init__(self) -> None:
        self.bytes = bytearray(0x10000)

    def dma_read(self, address: int, length: int) -> bytes:
        if address + length > len(self.bytes):
            raise DmaError("none")
        return bytes(self.bytes[address : address + length])

    def dma_write(self, address: int, data: bytes) -> None:
        if address + len(data) > len(self.bytes):
            raise DmaError("none")
        self.bytes[address : address + len(data)] = data


class Bench:
    def __init__(self) -> None:
        self.memory = Memory()
        self.device = FwCfg(self.memory)
        self.device.add_file("etc/b", b"second")
        self.device.add_file("etc/a", b"first file")
        self.device.reset()

    def read(self, key: int, count: int) -> bytes:
        self.device.select(key)
        return bytes(self.device.read_data() for _ in range(count))

    def dma(self, control: int, length: int, target: int, at: int = 0x100) -> int:
        self.memory.bytes[at : at + 16] = struct.pack(">LLQ", control, length, target)
        for offset, half in (0, 0), (4, at):
            value = int.from_bytes(half.to_bytes(4, "big"), "little")
            self.device.write_dma(offset, 4, value)
        return int.from_bytes(self.memory.bytes[at : at + 4], "big")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_signature_and_features(bench: Bench) -> None:
    assert bench.read(Key.SIGNATURE, 6) == b"QEMU\0\0"
    assert bench.read(Key.ID, 4) == b"\3\0\0\0"
    text = b"".join(bench.device.read_dma(o, 4).to_bytes(4, "little") for o in (0, 4))
    assert text == b"QEMU CFG"
    assert bench.device.read_dma(3, 1) == ord("U")


def test_files_are_listed_by_name(bench: Bench) -> None:
    listing = bench.read(Key.FILE_DIR, 4 + 2 * 64)
    assert listing[:4] == b"\0\0\0\2"
    rows = [struct.unpack_from(">LHH56s", listing, 4 + n * 64) for n in range(2)]
    assert [(size, key, name.rstrip(b"\0")) for size, key, _, name in rows] == [
        (10, 0x20, b"etc/a"), (6, 0x21, b"etc/b"),
    ]  # fmt: skip
    assert bench.read(0x21, 8) == b"second\0\0"


def test_what_is_not_there_reads_zeroes(bench: Bench) -> None:
    assert bench.read(0x1234, 3) == b"\0\0\0"


def test_dma_selects_skips_and_reads(bench: Bench) -> None:
    assert bench.dma(0x20 << 16 | 0x08 | 0x04, 6, 0) == 0
    assert bench.dma(0x02, 6, 0x200) == 0
    assert bench.memory.bytes[0x200:0x206] == b"file\0\0"


def test_dma_out_of_memory_and_writes_are_errors(bench: Bench) -> None:
    assert bench.dma(0x20 << 16 | 0x08 | 0x02, 0xFFFFFFFF, 0x200) == 1
    assert bench.dma(0x20 << 16 | 0x08 | 0x10, 4, 0x200) == 1
    bench.device.write_dma(4, 4, 0xFFFFFFFF)  # the command itself is nowhere


def test_a_file_made_at_reset_counts_from_then_on(bench: Bench) -> None:
    bench.device.before_reset(lambda: bench.device.add_file("etc/0", b"new"))
    bench.device.reset()
    assert bench.read(0x20, 3) == b"new"
    assert bench.device.file("etc/a") == b"first file"


def test_a_name_that_is_too_long_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="too long"):
        bench.device.add_file("x" * 56, b"")
