"""Tables behind a library guest's own: vectors without a gate lead to a HLT that tells which.

In memory the guest doesn't know of: a GDT that begins as the guest's, an IDT with its gates and
ours, and, for 64-bit code without paging, which no processor has, page tables of what is mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.errors import UnmappedError
from pytcg.machine.descriptor import parse_descriptor
from pytcg.machine.virtual import page_pieces, physical_address
from pytcg.softmmu.perm import Perm

if TYPE_CHECKING:
    from pytcg.accel.kvm.core import KvmCpu

ALIAS: Final = 0xFFFF0
"""Where real mode's missing vectors lead: one linear address, by a segment for each vector."""
_GDT, _IDT, _CODE, _STACK, _TABLES = 0, 0x1_0000, 0x1_1000, 0x1_2000, 0x2_0000
_SELECTOR: Final = 0xFFF8
_PE, _WP, _PG, _PAE, _LMA, _NXE = 1, 1 << 16, 1 << 31, 1 << 5, 1 << 10, 1 << 11
_VECTORS: Final = 256
_ERRORS: Final = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
_SOFTWARE: Final = {1: 0xF1, 3: 0xCC, 4: 0xCE}
_RF: Final = 1 << 16
_PRESENT, _ALL = 1, 7
_LEVELS: Final = (39, 30, 21, 12)


class Shadow:
    """Puts its tables in place of a guest's before a run, and takes them away after it."""

    def __init__(self, core: KvmCpu, processor: Any, view: memoryview, base: int):
        self._core = core
        self._cpu = processor
        self._regs = processor.regs
        self._view = view
        self._base = base
        self._version = -1
        self._used = _TABLES
        self._before: dict[str, int] = {}
        self._put: dict[str, int] = {}
        self._patched: tuple[int, bytes] | None = None
        self._linear = base
        self._gdt = b""

    # Before a run ------------------------------------------------------------------------------

    def put(self) -> None:
        """Exchange the tables; `take_away` undoes it."""
        regs = self._regs
        self._before = {name: regs[name] for name in (
            "cr0", "cr3", "cr4", "efer", "gdtr.base", "gdtr.limit", "idtr.base", "idtr.limit",
            "cs", "cs.base", "cs.limit", "cs.attr", "ss", "ss.base", "ss.limit", "ss.attr",
            "cpl")}  # fmt: skip
        long = bool(regs["efer"] & _LMA)
        self._linear, self._patched, self._gdt = self._base, None, b""
        if not regs["cr0"] & _PE:
            self._put_vectors()
        else:
            if regs["cr0"] & _PG:
                self._patch_tables(long=long)
            elif long:
                self._map_regions()
            self._put_gates(long=long)
        self._put = {name: regs[name] for name in self._before}

    def _read(self, linear: int, size: int) -> bytes:
        """Guest memory by the guest's own tables; zeroes where there is none."""
        found = b""
        for at, part in page_pieces(linear, size):
            physical = self._physical(at) if self._paged() else at
            try:
                found += self._cpu.memory.read(physical, part)
            except Exception:
                found += bytes(part)
        return found

    def _paged(self) -> bool:
        """Whether the guest has paging on: what we put in place of none does not count."""
        if self._before["cr0"] & _PG:
            return True
        return bool(self._regs["cr0"] & _PG) and self._regs["cr3"] != self._base + _TABLES

    def _physical(self, linear: int) -> int:
        """Where a linear address lies by the guest's tables; all ones if nowhere."""
        try:
            found = physical_address(self._cpu.memory, self._regs, linear)
        except UnmappedError:
            found = None  # tables that are no memory
        return -1 if found is None else found

    def _put_vectors(self) -> None:
        """Real mode: an IVT with the guest's vectors, and ours where there is 0:0."""
        regs = self._regs
        old = self._read(regs["idtr.base"], min(regs["idtr.limit"] + 1, 4 * _VECTORS))
        rows = bytearray(old.ljust(4 * _VECTORS, b"\0"))
        for vector in range(_VECTORS):
            if not any(rows[4 * vector : 4 * vector + 4]):
                segment = 0xF100 + vector
                rows[4 * vector : 4 * vector + 4] = (
                    (ALIAS - 16 * segment) & 0xFFFF | segment << 16).to_bytes(4, "little")
        self._view[_IDT : _IDT + len(rows)] = bytes(rows)
        regs["idtr.base"], regs["idtr.limit"] = self._base + _IDT, 4 * _VECTORS - 1

    def _put_gates(self, *, long: bool) -> None:
        """Protected and long mode: GDT and IDT."""
        regs, size = self._regs, 16 if long else 8
        gdt = self._read(regs["gdtr.base"], regs["gdtr.limit"] + 1) if regs["gdtr.limit"] else b""
        self._gdt = bytes(gdt[:_SELECTOR])
        code = 0x00AF_9B00_0000_FFFF if long else 0x00CF_9B00_0000_FFFF
        image = bytearray(gdt.ljust(_SELECTOR, b"\0"))[:_SELECTOR] + code.to_bytes(8, "little")
        self._view[_GDT : _GDT + 0x1_0000] = bytes(image)
        limit = regs["idtr.limit"]
        old = self._read(regs["idtr.base"], min(limit + 1, _VECTORS * size)) if limit else b""
        gates = bytearray(old.ljust(_VECTORS * size, b"\0"))
        for vector in range(_VECTORS):
            if (vector + 1) * size - 1 > limit:
                gates[vector * size : (vector + 1) * size] = self._gate(vector, size)
        self._view[_IDT : _IDT + len(gates)] = bytes(gates)
        self._view[_CODE : _CODE + _VECTORS] = b"\xf4" * _VECTORS
        regs["gdtr.base"], regs["gdtr.limit"] = self._linear + _GDT, 0xFFFF
        regs["idtr.base"], regs["idtr.limit"] = self._linear + _IDT, _VECTORS * size - 1

    def _gate(self, vector: int, size: int) -> bytes:
        offset = self._linear + _CODE + vector
        low = (offset & 0xFFFF | _SELECTOR << 16 | 0xEE << 40 | (offset >> 16 & 0xFFFF) << 48)
        return (low | offset >> 32 << 64).to_bytes(16, "little")[:size]

    # Page tables -------------------------------------------------------------------------------

    def _page(self) -> int:
        """A new table's offset in the view, zeroed."""
        at, self._used = self._used, self._used + 4096
        if self._used > len(self._view):
            raise MemoryError("too many regions for KVM's page tables")
        self._view[at : at + 4096] = bytes(4096)
        return at

    def _entry(self, table: int, index: int, value: int | None = None) -> int:
        at = table + 8 * index
        if value is not None:
            self._view[at : at + 8] = value.to_bytes(8, "little")
        return int.from_bytes(self._view[at : at + 8], "little")

    def _map(self, address: int, rights: int, *, shift: int, top: int) -> None:
        """One page of ``1 << shift`` bytes, one to one."""
        table = top
        for level in _LEVELS:
            index = address >> level & 511
            if level == shift:
                large = 0x80 if shift > 12 else 0
                self._entry(table, index, address | rights | large)
                return
            if not self._entry(table, index):
                self._entry(table, index, (self._base + self._page()) | _ALL)
            table = (self._entry(table, index) & 0xF_FFFF_FFFF_F000) - self._base

    def _map_regions(self) -> None:
        """64-bit code without paging: what is mapped, one to one, so that the rest faults."""
        regs, memory = self._regs, self._cpu.memory
        if self._version != memory.version:
            self._version, self._used = memory.version, _TABLES
            top = self._page()
            for start, end, _, _, perms in memory.ranges():
                rights = _PRESENT | 4 | (2 if perms & Perm.WRITE else 0)
                rights |= 0 if perms & Perm.EXECUTE else 1 << 63
                while perms & Perm.READ and start < end <= 1 << 39:
                    shift = 21 if not start & 0x1F_FFFF and end - start >= 1 << 21 else 12
                    self._map(start, rights, shift=shift, top=top)
                    start += 1 << shift
            for offset in range(0, _TABLES, 4096):
                self._map(self._base + offset, 3, shift=12, top=top)
        regs["cr3"], regs["cr0"] = self._base + _TABLES, regs["cr0"] | _PG | _WP
        regs["cr4"], regs["efer"] = regs["cr4"] | _PAE, regs["efer"] | _NXE

    def _patch_tables(self, *, long: bool) -> None:
        """The guest's paging: an entry of its top table that is free leads to us."""
        regs = self._regs
        wide = bool(regs["cr4"] & _PAE)
        shift = 39 if long else 30 if wide else 22
        size, count = (8, 512) if long else (8, 4) if wide else (4, 1024)
        top = regs["cr3"] & ~(0x1F if wide and not long else 0xFFF)
        entries = self._cpu.memory.read(top, size * count)
        free = [n for n in range(count // 2 if long else count)
                if not entries[n * size] & _PRESENT]  # fmt: skip
        if not free:
            raise ValueError("the guest's page tables have no room for KVM's")
        index, self._version, self._used = free[-1], -1, _TABLES
        self._patched = (top + index * size, entries[index * size : (index + 1) * size])
        if size == 4:
            table = self._page()
            for page in range(_TABLES >> 12):
                at = table + 4 * page
                self._view[at : at + 4] = (self._base + page * 4096 | 3).to_bytes(4, "little")
            value = self._base + table | 3
        else:
            value = self._hang(long=long)
        self._cpu.memory.write(self._patched[0], value.to_bytes(size, "little"))
        self._linear = index << shift

    def _hang(self, *, long: bool) -> int:
        """Tables for our pages from the second level down; the entry for the first."""
        table = first = self._page()
        if long:
            lower = self._page()
            self._entry(table, 0, self._base + lower | 3)
            table = lower
        lower = self._page()
        self._entry(table, 0, self._base + lower | 3)
        for page in range(_TABLES >> 12):
            self._entry(lower, page, self._base + page * 4096 | 3)
        return self._base + first | (3 if long else 1)

    # After it ----------------------------------------------------------------------------------

    def take_away(self) -> int | None:
        """Put the guest's own tables back; the vector that had no handler, if one stopped it."""
        regs = self._regs
        vector = self._recover() if self._put["cr0"] & _PE else self._recover_real()
        self._give_back()
        if self._patched is not None:
            self._cpu.memory.write(*self._patched)
        for name in ("cr3", "gdtr.base", "gdtr.limit", "idtr.base", "idtr.limit"):
            if regs[name] == self._put[name]:
                regs[name] = self._before[name]
        for name in ("cr0", "cr4", "efer"):
            regs[name] &= ~(self._put[name] & ~self._before[name])
        return vector

    def _give_back(self) -> None:
        """Descriptors that were marked as accessed or busy."""
        for at in range(0, len(self._gdt), 8):
            new = bytes(self._view[_GDT + at : _GDT + at + 8])
            if new != self._gdt[at : at + 8]:
                linear = self._before["gdtr.base"] + at
                self._cpu.memory.write(self._physical(linear) if self._paged() else linear, new)

    def _recover_real(self) -> int | None:
        regs, segment = self._regs, int(self._regs["cs"])
        if not 0xF100 <= segment < 0xF100 + _VECTORS or regs["rip"] + 16 * segment != ALIAS:
            return None
        frame = self._cpu.memory.read(regs["ss.base"] + (regs["rsp"] & 0xFFFF), 6)
        rip, cs, flags = (int.from_bytes(frame[n : n + 2], "little") for n in (0, 2, 4))
        regs["rip"], regs["cs"], regs["flags"] = rip, cs, flags
        regs["sp"] = regs["sp"] + 6 & 0xFFFF
        self._set_error(None)
        regs["rip"] -= self._interrupt_length(segment - 0xF100)
        return segment - 0xF100

    def _recover(self) -> int | None:
        """Undo the delivery to a HLT of ours."""
        regs = self._regs
        vector: int = regs["rip"] - 1 - self._linear - _CODE
        if regs["cs"] & ~3 != _SELECTOR or not 0 <= vector < _VECTORS:
            return None
        long = bool(regs["efer"] & _LMA)
        word = 8 if long else 4
        mask = (1 << 64) - 1 if long else 0xFFFF_FFFF
        at = regs["ss.base"] * (not long) + regs["rsp"] & mask
        data = self._read(at, 6 * word)
        frame = [int.from_bytes(data[n * word : (n + 1) * word], "little") for n in range(6)]
        error = frame.pop(0) if vector in _ERRORS else None
        self._set_error(error)
        regs["rip"], cs, regs["rflags"] = frame[0], frame[1] & 0xFFFF, frame[2] & ~_RF
        outer = cs & 3 != 0
        regs["rsp"] = frame[3] if long or outer else at + (4 * (3 + (error is not None)))
        self._reload("cs", cs)
        if outer:
            self._reload("ss", frame[4] & 0xFFFF)
        regs["cpl"] = cs & 3
        regs["rip"] -= self._interrupt_length(vector)
        return vector

    def _interrupt_length(self, vector: int) -> int:
        """Of the INT, INT3 or INTO that is behind rip: a run stops before it."""
        if vector in _ERRORS:
            return 0
        regs = self._regs
        code = self._read(regs["cs.base"] + regs["rip"] - 2, 2)
        if code == bytes((0xCD, vector)):
            return 2
        return int(_SOFTWARE.get(vector) == code[1])

    def _set_error(self, error: int | None) -> None:
        self._cpu.state.set("exception_has_error", int(error is not None))
        self._cpu.state.set("exception_error", error or 0)

    def _reload(self, name: str, selector: int) -> None:
        """A segment register as it was before the delivery: its descriptor or the start's."""
        regs = self._regs
        if selector == self._before[name]:
            for part in ("", ".base", ".limit", ".attr"):
                regs[name + part] = self._before[name + part]
            return
        base = regs["ldtr.base"] if selector & 4 else self._linear + _GDT
        raw = int.from_bytes(self._read_table(base + (selector & ~7), 8), "little")
        regs[name] = selector
        regs[f"{name}.base"], regs[f"{name}.limit"], regs[f"{name}.attr"] = parse_descriptor(raw)

    def _read_table(self, linear: int, size: int) -> bytes:
        if self._linear <= linear < self._linear + _TABLES:
            return bytes(self._view[linear - self._linear :][:size])
        return self._read(linear, size)

