"""A processor with tables around it: GDT, IDT, TSS, stacks and page tables, for system tests.

Physical memory is 2 MiB at 0. Handlers store the frame pointer and halt.
"""

from __future__ import annotations

import struct

from pytcg import Cpu, Stop
from x86.assemble import assemble

RAM = 0x20_0000
GDT, IDT, TSS, LDT = 0x1000, 0x2000, 0x3000, 0x3800
CODE, DATA = 0x8000, 0x9000
STACK0, STACK3, IST1 = 0xB000, 0xC000, 0xD000
HANDLERS = 0x6000
TABLES = 0x10_0000

# Selectors.
CODE0, DATA0, CODE3, DATA3 = 0x08, 0x10, 0x1B, 0x23
TSS_SELECTOR, LONG0, LONG3 = 0x28, 0x38, 0x43
FREE = 0x48
"""First selector that tests may define."""

FLAT_CODE, FLAT_DATA = 0x9B, 0x93
BIG, LONG = 0xC, 0xA
INTERRUPT, TRAP = 0x8E, 0x8F
P, RW, US, A, D, PS, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63


def descriptor(base: int, limit: int, access: int, flags: int = 0) -> int:
    """A segment descriptor; ``limit`` as encoded, ``flags`` are G D/B L AVL."""
    return (limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | access << 40
            | (limit >> 16 & 15) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56)  # fmt: skip


def gate(selector: int, offset: int, access: int, extra: int = 0) -> int:
    """The first eight bytes of a gate; ``extra``: IST, or a call gate's parameter count."""
    return (offset & 0xFFFF | selector << 16 | extra << 32 | access << 40
            | (offset >> 16 & 0xFFFF) << 48)  # fmt: skip


class Machine:
    """A `Cpu` in ``mode`` with a GDT and a TSS; gates are added by the tests."""

    def __init__(self, mode: str, engine: str = "threaded", model: str = "max"):
        self.cpu = Cpu(mode=mode, engine=engine, model=model)
        self.mode = mode
        self.cpu.map(0, RAM)
        self.regs = self.cpu.regs
        if mode != "real":
            self._tables()

    def _tables(self) -> None:
        long = self.mode == "long"
        self.define(CODE0, descriptor(0, 0xFFFFF, FLAT_CODE, LONG if long else BIG))
        self.define(DATA0, descriptor(0, 0xFFFFF, FLAT_DATA, BIG))
        self.define(CODE3, descriptor(0, 0xFFFFF, FLAT_CODE | 0x60, LONG if long else BIG))
        self.define(DATA3, descriptor(0, 0xFFFFF, FLAT_DATA | 0x60, BIG))
        self.define(TSS_SELECTOR, descriptor(TSS, 0x67, 0x89))
        self.regs["gdtr.base"], self.regs["gdtr.limit"] = GDT, 0x7FF
        self.regs["cs"], self.regs["rsp"] = CODE0, STACK0
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.regs[name] = DATA0
        if long:
            self.put(TSS + 4, STACK0 - 0x400, 8)
            self.put(TSS + 36, IST1, 8)
        else:
            self.put(TSS + 4, STACK0 - 0x400, 4)
            self.put(TSS + 8, DATA0, 2)
        self.put(TSS + 0x66, 0x68, 2)
        self.regs["tr"], self.regs["tr.base"] = TSS_SELECTOR, TSS
        self.regs["tr.limit"], self.regs["tr.attr"] = 0x67, 0x8B

    # Memory ------------------------------------------------------------------------------------

    def put(self, address: int, value: int, size: int) -> None:
        self.cpu.write(address, value.to_bytes(size, "little"))

    def get(self, address: int, size: int) -> int:
        return int.from_bytes(self.cpu.read(address, size), "little")

    def stack(self, count: int, size: int, at: int | None = None) -> list[int]:
        """``count`` elements from the stack pointer up."""
        start = self.regs["rsp"] if at is None else at
        return [self.get(start + i * size, size) for i in range(count)]

    def define(self, selector: int, value: int) -> None:
        self.put(GDT + (selector & ~7), value, 8)

    def handler(self, vector: int, access: int = INTERRUPT, *, selector: int | None = None,
                ist: int = 0, code: str = "hlt", bits: int = 0) -> int:  # fmt: skip
        """Give a vector a gate and a handler that halts; returns the handler's address."""
        long = self.mode == "long"
        at = HANDLERS + vector * 16
        self.cpu.write(at, assemble(code, bits or (64 if long else 32)))
        size = 16 if long else 8
        self.put(IDT + vector * size, gate(selector or CODE0, at, access, ist), 8)
        self.regs["idtr.base"], self.regs["idtr.limit"] = IDT, 256 * size - 1
        return at

    def code(self, text: str, at: int = CODE, bits: int = 0) -> None:
        width = bits or {"real": 16, "protected": 32, "long": 64}[self.mode]
        self.cpu.write(at, assemble(text, width))

    def run(self, text: str = "", *, start: int = CODE, bits: int = 0, insns: int = 1000) -> Stop:
        """Put code at ``start`` (if any) and run it."""
        if text:
            self.code(text, start, bits)
        return self.cpu.run(start, max_insns=insns)

    def user(self) -> None:
        """Be at level 3 from the next `run` on."""
        self.regs["cs"], self.regs["cpl"] = CODE3, 3
        self.regs["cs.attr"] |= 0x60
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.regs[name] = DATA3
            self.regs[f"{name}.attr"] |= 0x60
        self.regs["rsp"] = STACK3

    # Page tables -------------------------------------------------------------------------------

    def map_legacy(self, *, rights: int = P | RW | US) -> int:
        """32-bit paging, the first 4 MiB one to one; returns the page table's address."""
        self.put(TABLES, (TABLES + 0x1000) | rights, 4)
        entries = [page << 12 | rights for page in range(1024)]
        self.cpu.write(TABLES + 0x1000, struct.pack("<1024I", *entries))
        self.regs["cr3"], self.regs["cr0"] = TABLES, self.regs["cr0"] | 1 << 31 | 1 << 16
        return TABLES + 0x1000

    def map_long(self, *, rights: int = P | RW | US) -> int:
        """4-level paging, the first 2 MiB one to one; returns the page table's address."""
        for level in range(3):
            self.put(TABLES + level * 0x1000, (TABLES + (level + 1) * 0x1000) | P | RW | US, 8)
        entries = [page << 12 | rights for page in range(512)]
        self.cpu.write(TABLES + 0x3000, struct.pack("<512Q", *entries))
        self.regs["cr3"], self.regs["cr4"] = TABLES, self.regs["cr4"] | 1 << 5
        self.regs["efer"] |= 1 << 11
        self.regs["cr0"] |= 1 << 31 | 1 << 16
        return TABLES + 0x3000

    def map_pae(self) -> int:
        """PAE paging, the first 2 MiB one to one; returns the page table's address."""
        self.put(TABLES, (TABLES + 0x1000) | P, 8)
        self.put(TABLES + 0x1000, (TABLES + 0x2000) | P | RW | US, 8)
        entries = [page << 12 | P | RW | US for page in range(512)]
        self.cpu.write(TABLES + 0x2000, struct.pack("<512Q", *entries))
        self.regs["cr3"], self.regs["cr4"] = TABLES, self.regs["cr4"] | 1 << 5
        self.regs["cr0"] |= 1 << 31 | 1 << 16
        return TABLES + 0x2000
