"""`X86Cpu`: one processor's memory (state, TLBs, caches, arena) and its callbacks into Python.

The same object serves every engine: an engine is something that can call natives by name, make
host callbacks, and compile forms.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from pytcg.exec import layout, stitch
from pytcg.exec.bus import CpuBus, PortRuns, SystemManagement
from pytcg.exec.exits import Exit
from pytcg.exec.room import USUAL, CodeRoom
from pytcg.ir.blocks import Function
from pytcg.log import Log
from pytcg.softmmu.ram import BufferPart, HostBuffer, RamError, RamWindow
from pytcg_native.compiler import Program
from pytcg_x86.core.debuglog import Reporter
from pytcg_x86.core.registers import Registers, StateView
from pytcg_x86.core.reset import reset_image, reset_state, set_segment
from pytcg_x86.core.state import ENV, Flag, Host, Vendor
from pytcg_x86.core.tables import begin_tables, keep_tables, page_table_size, table_parts
from pytcg_x86.system.cpuid import CpuModel

_RANGES = 128
_RANGE_ROW = struct.Struct("<QQQQQ")  # layout.RANGE
_HALTED = ENV.place("halted")
_DELIVERING, _STOP, _EXIT = (
    ENV.place(name) // 4 for name in ("delivering", "stop_request", "exit_request"))
_EXITS = {reason.value: reason for reason in Exit}
_FORM_ROW = struct.Struct("<QQQQ")  # layout.FORM
_TRAMPOLINE = struct.Struct("<HQH")
_MOV_RAX, _JMP_RAX = 0xB848, 0xE0FF
_STENCIL = layout.FORM.offset("stencil")
_PAGE_ROW = layout.PAGE.size
_ALL_ONES = (1 << 64) - 1
_VENDORS = {"GenuineIntel": Vendor.INTEL, "AuthenticAMD": Vendor.AMD, "HygonGenuine": Vendor.AMD}


class Engine(Protocol):
    """What runs native code: compiled by LLVM, or evaluated in Python."""

    name: str
    forms: dict[int, tuple[int, int]]  # (code, effects) by key
    stencils: dict[int, int]  # address of a form's stencil (`layout.STENCIL`) by key
    x87_control: int  # the control word under which the x87 ops compute

    def symbol(self, name: str) -> int: ...

    def call(self, name: str, *args: int) -> int: ...

    def compile_forms(self, keys: Iterable[int]) -> Mapping[int, tuple[int, int]]: ...

    def callback(self, result: str, parameters: list[str],
                 function: Callable[..., int | None]) -> tuple[int, object]: ...  # fmt: skip

    def attach(self, buffers: Iterable[HostBuffer]) -> None: ...

    def define_native(self, function: Function, program: Program) -> int: ...


class GuestMemory(Protocol):
    """Physical memory: a window of RAM and where its parts appear."""

    window: RamWindow
    version: int  # of the ranges
    on_write: list[Callable[[int, int], None]]
    on_change: list[Callable[[], None]]

    def ranges(self) -> Iterable[tuple[int, int, int, int, int]]: ...


class Accelerator(Protocol):
    """What runs the guest in place of the engine."""

    def execute(self) -> Exit: ...

    def kick(self) -> None: ...


class RegionCompiling(Protocol):
    """What compiles hot blocks."""

    def wake(self) -> None: ...

    def account(self) -> str: ...

    def compile_now(self, processor: X86Cpu, block: int) -> None: ...


class X86Cpu:
    """One x86 processor on one engine. Not thread-safe but for `poke` and the pins.

    It begins with the state ``begin`` (a struct ENV), or as after RESET.
    """

    def __init__(self, engine: Engine, memory: GuestMemory, bus: CpuBus, model: CpuModel,
                 room: CodeRoom = USUAL, begin: bytes | None = None):  # fmt: skip
        self.engine = engine
        self.room = room
        self.memory = memory
        self.bus = bus
        self.model = model
        self.error: BaseException | None = None
        window = memory.window
        tables = table_parts(huge=window.huge)
        self.buffers: dict[str, HostBuffer | BufferPart] = {
            **tables, "pages": self._buffer(page_table_size(window)),
            "arena": self._buffer(room.records), "ranges": self._buffer(_RANGES * _RANGE_ROW.size),
        }  # fmt: skip
        engine.attach([tables["env"].owner, *(buffer for buffer in self.buffers.values()
                                              if isinstance(buffer, HostBuffer)), window])
        self.address = self.buffers["env"].address - ENV.origin
        self.state = StateView(ENV, self.buffers["env"].view)
        self._words = self.state.view.cast("I")
        self.regs = Registers(self.state)
        self.state.view[: ENV.size] = begin or reset_image(model.signature)
        self._kept: list[object] = []
        self._memory_version = -1
        self._written: deque[tuple[int, int]] = deque()
        memory.on_write.append(self._note_write)
        memory.on_change.append(self._note_change)
        self._thread = 0
        self.inside = 0
        """How many runs of guest code are under way: within a callback there may be another."""
        self._connect()
        self.regions: RegionCompiling | None = None
        self.accelerator: Accelerator | None = None
        self._forms_done = 1
        self._install_known_forms(tables)
        self._install_head()
        self.settle(flush=True)

    # Setting up --------------------------------------------------------------------------------

    def _connect(self) -> None:
        put = self.state.set
        for name in ("tlbs", "jumps", "hash", "form_hash", "form_list", "pages", "arena", "ranges",
                     "tlb_log", "jump_log", "global_tlb_log", "global_jump_log",
                     "tlb_global"):  # fmt: skip
            put(name, self.buffers[name].address)
        put("ram", self.memory.window.address)
        put("fp_unit", self.engine.x87_control)
        put("counts", ENV.size + ENV.origin)
        put("arena_size", self.buffers["arena"].size)
        put("arena_limit", self.buffers["arena"].size)
        put("form_count", 1)
        put("hook_skip", _ALL_ONES)
        put("block_skip", _ALL_ONES)
        put("leave", self.engine.symbol("tb_leave"))
        if self.engine.name == "threaded":
            self._make_room_for_code()
        bus = self.bus
        self._bind("read_mmio", "u64", ["u64", "u32"], bus.read_mmio)
        self._bind("write_mmio", "void", ["u64", "u32", "u64"], bus.write_mmio)
        hosts: list[tuple[Host, str, list[str], Callable[..., int | None]]] = [
            (Host.READ_PORT, "u64", ["u32", "u32"], bus.read_port),
            (Host.WRITE_PORT, "void", ["u32", "u32", "u64"], bus.write_port),
            (Host.ACKNOWLEDGE, "i64", [], bus.acknowledge_interrupt),
            (Host.READ_MSR, "u64", ["u32"], self._read_msr),
            (Host.WRITE_MSR, "u64", ["u32", "u64"], self._write_msr),
            (Host.READ_CR8, "u64", [], bus.read_cr8),
            (Host.WRITE_CR8, "void", ["u64"], bus.write_cr8),
            (Host.CPUID, "void", ["u32", "u32"], self._cpuid),
            (Host.FPU_ERROR, "void", [], bus.fpu_error),
            (Host.RANDOM, "u64", [], lambda: int.from_bytes(os.urandom(8), "little")),
        ]
        if isinstance(bus, PortRuns):
            run = ["u32", "u32", "u64", "u64"]
            hosts.append((Host.READ_PORTS, "u64", run, partial(self._read_ports, bus)))
            hosts.append((Host.WRITE_PORTS, "u64", run, partial(self._write_ports, bus)))
        manages = bus.set_smm if isinstance(bus, SystemManagement) else lambda _active: None
        hosts.append((Host.SMM, "void", ["u32"], manages))
        for host, result, parameters, function in hosts:
            self._bind("host", result, parameters, function, host)
        for index, word in enumerate(self.model.feature_words()):
            put("cpuid_features", word, index)
        put("vendor", _VENDORS.get(self.model.identity.vendor, Vendor.OTHER))

    def _make_room_for_code(self) -> None:
        """Memory for stitched blocks: what is written to it is what `exec.stitch` copies."""
        try:
            buffer = HostBuffer(self.room.stitched, huge=self.memory.window.huge, code=True)
        except RamError:  # a host that allows no such memory
            return
        self.buffers["code"] = buffer
        for number, name in enumerate(stitch.TRAMPOLINES):
            _TRAMPOLINE.pack_into(buffer.view, number * stitch.TRAMPOLINE, _MOV_RAX,
                                  self.engine.symbol(name), _JMP_RAX)  # fmt: skip
        used = len(stitch.TRAMPOLINES) * stitch.TRAMPOLINE
        for field, value in (("code", buffer.address), ("code_size", buffer.size),
                             ("code_used", used), ("code_floor", used)):  # fmt: skip
            self.state.set(field, value)

    def _read_ports(self, bus: PortRuns, port: int, size: int, count: int, offset: int) -> int:
        """REP INS of ``count`` elements to the RAM window; how many there were."""
        data = bus.read_port_run(port, size, count)
        self.memory.window.view[offset : offset + len(data)] = data
        return count

    def _write_ports(self, bus: PortRuns, port: int, size: int, count: int, offset: int) -> int:
        """REP OUTS of ``count`` elements from the RAM window; how many were taken."""
        data = bytes(self.memory.window.view[offset : offset + count * size])
        bus.write_port_run(port, size, data)
        return count

    def _bind(self, field: str, result: str, parameters: list[str],
              function: Callable[..., int | None], index: int = 0) -> None:  # fmt: skip
        def guarded(*args: int) -> int:
            try:
                return function(*args) or 0
            except BaseException as error:  # surfaces from run(), in Python
                self.error = self.error or error
                self.poke(stop=True)
                return 0

        def silent(*args: int) -> None:
            guarded(*args)

        wrapped: Callable[..., int | None] = silent if result == "void" else guarded
        address, keep = self.engine.callback(result, parameters, wrapped)
        self._kept.append(keep)
        self.state.set(field, address, index)

    def reset(self) -> None:
        """The state after RESET (SDM vol. 3A, table 9-1)."""
        reset_state(self.state, self.regs, self.model.signature)
        self.settle(flush=True)

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        """Load a segment register with its hidden part; ``limit`` in bytes."""
        set_segment(self.state, name, selector, base, limit, attributes)

    def _buffer(self, size: int) -> HostBuffer:
        """As the RAM window is: in huge pages or not."""
        return HostBuffer(-(-size // 4096) * 4096, huge=self.memory.window.huge)

    def _exchange(self, name: str, size: int) -> None:
        """Another buffer for one of the state's tables, empty."""
        buffer = self.buffers[name] = self._buffer(size)
        self.engine.attach([buffer])
        self.state.set(name, buffer.address)

    def use_window(self, window: RamWindow) -> None:
        """Another RAM window, with the old one's contents; not while the guest runs."""
        self.memory.window = window
        self.memory.version += 1
        self.engine.attach([window])
        self.state.set("ram", window.address)
        self.engine.call("tb_flush", self.address)
        self._exchange("pages", page_table_size(window))

    def settle(self, *, flush: bool = False) -> None:
        """Make what derives from registers and memory true again after Python changed them."""
        if self._memory_version != self.memory.version:
            self._publish_memory()
        while self._written:
            self.engine.call("invalidate_physical", self.address, *self._written.popleft())
        if flush:
            self.engine.call("tb_flush", self.address)
        self.engine.call("tlb_flush", self.address)
        self.engine.call("update_mode", self.address)
        state = self.state
        if state.get("dr", 7) & 0xFF or state.get("watch_mask") or state.get("break_mask"):
            self.engine.call("update_debug", self.address)

    def _note_write(self, offset: int, length: int) -> None:
        """The host or a device wrote to RAM: where there are blocks, they are dropped.

        At once if this processor had the device do it, as after a store of its own; else by
        `settle`.
        """
        first, last = offset // layout.PAGE_SIZE, (offset + length - 1) // layout.PAGE_SIZE
        rows = self.buffers["pages"].view[first * _PAGE_ROW : (last + 1) * _PAGE_ROW]
        if rows.tobytes().count(0) == len(rows):
            return
        if self._thread == get_ident():
            self.engine.call("invalidate_physical", self.address, offset, length)
        else:
            self._written.append((offset, length))
            self.poke(stop=True)

    def attach_regions(self, service: RegionCompiling, *, at_once: bool = False) -> None:
        """Have hot blocks compiled by ``service``; ``at_once`` every block before its first run."""
        self.regions = service
        self._bind("hot_event", "void", [], service.wake)
        self.state.set("jit_at_once", int(at_once))
        self.engine.call("tb_flush", self.address)

    def regions_run(self) -> tuple[int, int]:
        """How often regions were entered, and how many instructions ran in them."""
        self.engine.call("region_totals", self.address)
        return self.state.get("region_entries"), self.state.get("region_insns")

    def region_account(self) -> str:
        """What the compiler of regions has done, for `-d stats`."""
        if self.regions is None:
            return ""
        return f"{self.regions.account()} late {self.state.get('regions_late')}"

    def attach_log(self, log: Log, dump_form: Callable[[int, Collection[str]], str]) -> None:
        """Report what the log asks for; ``dump_form`` gives the text of a form's stages."""
        reporter = Reporter(self, log, dump_form)
        self._bind("log_event", "void", ["u32", "u64", "u64", "u64"], reporter.event)
        self.state.set("log", reporter.events)
        self.engine.call("tb_flush", self.address)

    def _publish_memory(self) -> None:
        rows = b"".join(_RANGE_ROW.pack(*row) for row in self.memory.ranges())
        if len(rows) > self.buffers["ranges"].size:
            self._exchange("ranges", 2 * len(rows))
        self.buffers["ranges"].view[: len(rows)] = rows
        self.state.set("range_count", len(rows) // _RANGE_ROW.size)
        self.state.set("ram_size", self.memory.window.size)
        self._memory_version = self.memory.version

    def _note_change(self) -> None:
        """Addresses mean other memory: at once if it is this processor that changed them.

        Blocks are known by their place in the RAM window, so they stay.
        """
        if self._thread == get_ident():
            self._publish_memory()
            self.engine.call("tlb_flush", self.address)
        else:
            self.poke(stop=True)

    def set_a20(self, level: bool) -> None:
        """The A20M# pin: with the gate closed, bit 20 of physical addresses reads as 0."""
        mask = _ALL_ONES if level else _ALL_ONES & ~(1 << 20)
        if mask != self.state.get("a20_mask"):
            self.state.set("a20_mask", mask)
            if self._thread == get_ident():
                self.engine.call("tlb_flush", self.address)
            else:
                self.poke(stop=True)

    # Running -----------------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Whether `settle` has something to do about memory."""
        return bool(self._written) or self._memory_version != self.memory.version

    def begin_run(self) -> None:
        """Forget what ended the last run; a trap or interrupt may be due."""
        words = self._words  # bench.library: short runs are many
        self.state.view[_HALTED] = words[_DELIVERING] = words[_STOP] = 0
        words[_EXIT] = 1

    def execute(self) -> Exit:
        """Run until there is a reason to stop that Python must know of."""
        self._thread = get_ident()
        try:
            while True:
                if self.accelerator is not None:
                    reason = self.accelerator.execute()
                else:
                    reason = self._run_guest()
                if self.error is not None:
                    error, self.error = self.error, None
                    raise error
                if reason is Exit.MISSING_FORMS:
                    self.compile_missing()
                elif reason is Exit.HOT and self.regions is not None:
                    self.regions.compile_now(self, self.state.get("jit_block"))
                else:
                    return reason
        finally:
            self._thread = 0

    def _run_guest(self) -> Exit:
        self.inside += 1
        try:
            return _EXITS[self.engine.call("guest_run", self.address) & 0xFFFF_FFFF]
        finally:
            self.inside -= 1

    def _install_known_forms(self, tables: dict[str, BufferPart]) -> None:
        """The forms compiled so far, and empty tables otherwise."""
        count = begin_tables(tables, self.engine)
        if count:
            self.state.set("form_count", count)
            self._forms_done = count
            return
        forms, stencils = dict(self.engine.forms), len(self.engine.stencils)
        self._install_forms(forms)
        keep_tables(tables, self.engine, (len(forms), stencils), self._forms_done)

    def _install_forms(self, forms: Mapping[int, tuple[int, int]]) -> None:
        """Let the decoder know compiled forms by key."""
        view = self.buffers["form_list"].view
        for key, (code, effects) in forms.items():
            number = self.engine.call("form_index", self.address, key) & 0xFFFF_FFFF
            _FORM_ROW.pack_into(view, number * layout.FORM.size, key, code, effects,
                                self.engine.stencils.get(key, 0))  # fmt: skip
        self._forms_done = self.state.get("form_count")

    def _install_head(self) -> None:
        """Stitch blocks from now on, if there is a stencil for their heads."""
        if "code" in self.buffers:
            for name, key in (("hop_stencil", stitch.HOP_KEY), ("head_stencil", stitch.HEAD_KEY)):
                self.state.set(name, self.engine.stencils.get(key, 0))

    def install_stencils(self) -> None:
        """Let native code know the engine's stencils; from any thread, beside the guest."""
        self._install_head()
        view, stencils = self.buffers["form_list"].view, self.engine.stencils
        for at in range(0, self.state.get("form_count") * layout.FORM.size, layout.FORM.size):
            address = stencils.get(int.from_bytes(view[at : at + 8], "little"), 0)
            view[at + _STENCIL : at + _STENCIL + 8] = address.to_bytes(8, "little")

    def compile_missing(self) -> None:
        """Compile the forms that decoded blocks wait for."""
        view = self.buffers["form_list"].view
        numbers = range(self._forms_done, self.state.get("form_count"))
        keys = [_FORM_ROW.unpack_from(view, n * layout.FORM.size)[0] for n in numbers]
        self._install_forms(self.engine.compile_forms(keys))
        if self.regions is None:
            # Blocks made before now lack the superinstructions that have just been compiled. With
            # regions it costs more to lose blocks that are counted, or compiled already.
            self.engine.call("tb_flush", self.address)

    def poke(self, *, stop: bool = False, now: bool = False) -> None:
        """Make running code look at interrupts soon (or return); callable from any thread.

        ``now``: the run ends, and hooks that have not been called for an instruction aren't.
        """
        if stop:
            asked = self.state.get("stop_request") or 1
            self.state.set("stop_request", layout.STOP_NOW if now else asked)
        self.state.set("exit_request", 1)
        if self.accelerator is not None:
            self.accelerator.kick()

    def wakes(self) -> bool:
        """Whether a pin is at a level that ends HLT: INTR counts only if IF is set."""
        if self.state.get("smi_pending") and not self.state.get("smm"):
            return True
        if self.state.get("nmi_pending") and not self.state.get("nmi_blocked"):
            return True
        return bool(self.state.get("intr_line") and self.state.get("eflags") & Flag.IF)

    @property
    def tsc_frequency(self) -> int:
        """Hertz, as CPUID tells the guest."""
        return self.model.tsc_hz

    def tsc(self) -> int:
        """The guest's time-stamp counter."""
        from pytcg_threaded.tsc import host_cycles

        return (host_cycles() + self.state.get("tsc_offset")) & _ALL_ONES

    def set_tsc(self, value: int) -> None:
        """Let the time-stamp counter go on from a value."""
        from pytcg_threaded.tsc import host_cycles

        self.state.set("tsc_offset", (value - host_cycles()) & _ALL_ONES)

    def save(self) -> dict[str, Any]:
        """The architecture's state, for `restore`; not while running."""
        from pytcg_x86.core.saved import save_state

        return save_state(self.state, self.model.feature_words(), self.tsc())

    def restore(self, saved: dict[str, Any]) -> None:
        """Be as `save` found it; ValueError."""
        from pytcg_x86.core.saved import restore_state

        self.set_tsc(restore_state(self.state, self.model.feature_words(), saved))
        self.settle(flush=True)

    def has(self, feature: str) -> bool:
        """Whether the CPU model has a feature, by its name for `-cpu`."""
        return feature in self.model.features

    # Callbacks ---------------------------------------------------------------------------------

    def _read_msr(self, index: int) -> int:
        self.state.set("scratch", 0)
        try:
            return self.bus.read_msr(index)
        except KeyError:
            self.state.set("scratch", 1)
            return 0

    def _write_msr(self, index: int, value: int) -> int:
        self.state.set("scratch", 0)
        try:
            self.bus.write_msr(index, value)
        except (KeyError, ValueError):
            self.state.set("scratch", 1)
        return 0

    def _cpuid(self, leaf: int, subleaf: int) -> None:
        for number, word in enumerate(self.model.cpuid(leaf, subleaf)):
            self.state.set("scratch", word, number)

