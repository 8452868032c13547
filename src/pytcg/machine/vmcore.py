"""A machine's memory as an ELF core file: what QEMU's dump-guest-memory writes, for crash and gdb.

Two notes tell of the processor: CORE's NT_PRSTATUS, as Linux's own cores have it, and QEMU's, with
segments, tables and control registers. Addresses are physical.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pytcg.machine.layout import RamBlock
    from pytcg.machine.runner import Registers

HEADER: Final = struct.Struct("<16sHHLQQQLHHHHHH")
SEGMENT: Final = struct.Struct("<LLQQQQQQ")
IDENT: Final = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
CORE, X86_64 = 4, 62
LOAD, NOTE = 1, 4
NT_PRSTATUS: Final = 1
PRSTATUS: Final = struct.Struct("<32xL76x27Q8x")
STATUS_ORDER: Final = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax",
                       "rcx", "rdx", "rsi", "rdi", "", "rip", "cs", "rflags", "rsp", "ss",
                       "fs.base", "gs.base", "ds", "es", "fs", "gs")  # fmt: skip
QEMU_ORDER: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
                     *(f"r{number}" for number in range(8, 16)), "rip", "rflags")  # fmt: skip
QEMU_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "ldtr", "tr")
QEMU_SIZE: Final = 8 + 8 * len(QEMU_ORDER) + 24 * 10 + 8 * 6
CHUNK: Final = 1 << 20


def notes(regs: Registers) -> bytes:
    """What is to be said of the processor."""
    values = [regs[name] if name else 0 for name in STATUS_ORDER]
    return (_note(b"CORE", NT_PRSTATUS, PRSTATUS.pack(1, *values))
            + _note(b"QEMU", 0, _qemu_state(regs)))  # fmt: skip


def _note(name: bytes, kind: int, data: bytes) -> bytes:
    head = struct.pack("<LLL", len(name) + 1, len(data), kind)
    return head + name.ljust(len(name) + 4 & ~3, b"\0") + data.ljust(len(data) + 3 & ~3, b"\0")


def _qemu_state(regs: Registers) -> bytes:
    state = struct.pack("<LL18Q", 1, QEMU_SIZE, *(regs[name] for name in QEMU_ORDER))
    for name in QEMU_SEGMENTS:
        attributes, limit = regs[f"{name}.attr"], regs[f"{name}.limit"]
        flags = (attributes & 0xF0FF) << 8 | (limit >> 16 & 15) << 16
        state += struct.pack("<LLLLQ", regs[name], limit, flags, 0, regs[f"{name}.base"])
    for name in ("gdtr", "idtr"):
        state += struct.pack("<LLLLQ", 0, regs[f"{name}.limit"], 0, 0, regs[f"{name}.base"])
    controls = (regs["cr0"], 0, regs["cr2"], regs["cr3"], regs["cr4"])
    return state + struct.pack("<6Q", *controls, regs["kernel_gs_base"])


def chosen(blocks: Sequence[RamBlock], begin: int, length: int | None) -> list[tuple[int, int]]:
    """(address, length) of the RAM in a range; all of it if no length is given."""
    if length is None:
        return [(block.physical, block.length) for block in blocks]
    found = []
    for block in blocks:
        start, end = max(begin, block.physical), min(begin + length, block.physical + block.length)
        if start < end:
            found.append((start, end - start))
    return found


def headers(runs: Sequence[tuple[int, int]], said: bytes) -> bytes:
    """All that stands before the memory."""
    count = len(runs) + 1
    at = HEADER.size + SEGMENT.size * count
    head = HEADER.pack(IDENT, CORE, X86_64, 1, 0, HEADER.size, 0, 0, HEADER.size, SEGMENT.size,
                       count, 0, 0, 0)  # fmt: skip
    head += SEGMENT.pack(NOTE, 0, at, 0, 0, len(said), len(said), 0)
    at += len(said)
    for address, length in runs:
        head += SEGMENT.pack(LOAD, 0, at, address, address, length, length, 0)
        at += length
    return head + said


def write(file: BinaryIO, runs: Sequence[tuple[int, int]], regs: Registers,
          memory: Iterator[bytes]) -> None:  # fmt: skip
    """The whole file; ``memory`` gives the runs' bytes in order."""
    file.write(headers(runs, notes(regs)))
    for piece in memory:
        file.write(piece)
