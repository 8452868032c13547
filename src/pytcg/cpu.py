"""`Cpu`: one x86 processor and some memory, for running and testing pieces of guest code."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Lock, Timer, get_ident
from typing import TYPE_CHECKING, Any

from pytcg.errors import AssemblyError, BusyError, CpuError, DeviceCodeError, MapError
from pytcg.exec.exits import Exit
from pytcg.exec.hooks import NO_PC, WRITES
from pytcg.library.bus import Callbacks, LibraryBus, NoBus
from pytcg.library.checks import seconds, whole
from pytcg.library.hooks import SKIP, Hook, Hooks, RawCallback
from pytcg.library.memory import MemoryMap, MmioHandler, Region
from pytcg.library.modes import FAR, MODES, NEAR, PLACES, mode_image
from pytcg.library.registers import Registers
from pytcg.library.snapshot import Snapshot, Snapshots
from pytcg.library.stop import Stop
from pytcg.log import Log
from pytcg.softmmu.access import MODIFIES
from pytcg.softmmu.perm import RWX, Perm
from pytcg.softmmu.ram import HostBuffer, RamError, RamWindow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pytcg.exec.debugger import Debugger
    from pytcg.exec.hooks import Hooks as Lists
    from pytcg.gdbstub.library import Listening
    from pytcg.library.call import Argument
    from pytcg.library.loader import Image

__all__ = ["SKIP", "Context", "Cpu", "CpuError", "NoBus", "Stop"]

_WINDOW = 16 << 30
_SLICE = 20_000_000  # instructions: well under a second on the threaded engine
_FOREVER = 1 << 62
_PC, _BUDGET, _HOOK_SKIP, _BLOCK_SKIP = (
    PLACES[name] // 8 for name in ("pc", "budget", "hook_skip", "block_skip"))
_RETIRED = PLACES["retired"] // 8
_SOFT = PLACES["budget_soft"] // 4
_DEEP = 120 << 20  # bytes of translated code that a run within a run has to leave alone
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_SOFTWARE = frozenset(b"\xcc\xcd\xce\xf1")  # INT3, INT, INTO, INT1
_KINDS = {Exit.HALT: "hlt", Exit.UNTIL: "until", Exit.BUDGET: "limit",
          Exit.TRIPLE_FAULT: "shutdown"}  # fmt: skip


class Context:
    """A processor's registers at some time; of use to `Cpu.restore_context` only."""

    __slots__ = ("data", "mode")

    def __init__(self, mode: str, data: bytes):
        self.mode = mode
        self.data = data


class Cpu:
    """A processor in ``mode`` "real", "protected" (flat 32-bit) or "long" (flat 64-bit).

    In protected and long mode all segments are flat, CPL is 0 and linear addresses are physical
    ones; long mode begins with paging off, which hardware does not allow: load CR3 and CR0 for
    page tables of your own. ``engine`` is "auto" (threaded code whose hot blocks are compiled),
    "threaded", "jit" (every block is compiled before it runs), "python", or "kvm" (the host's own
    processor; hooks don't work there, and no budget but 1 is exact).
    Accesses to unmapped memory are page faults. An exception without a handler (beyond the IDT's
    limit; in real mode a vector of 0:0) stops the run, unless ``stop_exceptions`` is false: then it
    is delivered as hardware does. ``log`` is a debug log, as that of the command line's ``-d``.

    One thread at a time may run it (BusyError); `stop` may come from any.
    """

    def __init__(self, mode: str = "long", engine: str = "auto", *, model: str = "max",
                 stop_exceptions: bool = True, log: Log | None = None):  # fmt: skip
        from pytcg.engines import KVM, attach_kvm, attach_regions, make_engine
        from pytcg_x86.core.cpu import X86Cpu
        from pytcg_x86.system.cpuid import CpuModel

        if mode not in MODES:
            raise CpuError(f"no mode {mode!r}: real, protected and long are the modes")
        try:
            made = make_engine(engine)
            parsed = CpuModel.parse(model)
        except (ValueError, TypeError) as error:
            raise CpuError(str(error)) from None
        if mode == "long" and "lm" not in parsed.features:
            raise CpuError(f"CPU model {model!r} has no long mode")
        self.mode = mode
        self.memory = MemoryMap(RamWindow(_WINDOW, huge=False))
        self.memory.grow = self._grow
        self.memory.on_change.append(self._memory_changed)
        self._instructions = 0
        self.bus = LibraryBus(self)
        begin = mode_image(mode, stop_exceptions=bool(stop_exceptions),
                           avx="avx" in parsed.features, signature=parsed.signature)  # fmt: skip
        self._cpu = X86Cpu(made, self.memory, self.bus, parsed, begin=begin)
        attach_regions(self._cpu, engine, log)
        if engine == KVM:
            attach_kvm(self._cpu)
        view = self._cpu.buffers["env"].view
        self._words = view.cast("Q")
        self._halves = view.cast("I")
        self._dirty = True
        self._flush = False
        self._until: int | None = None
        self._views: list[tuple[weakref.ref[Any], int, int]] = []
        self._owner_thread = 0
        self._guard = Lock()
        self._stopping = ""
        self._jump: int | None = None
        self.debugger: Debugger | None = None
        self.hooks = Hooks(self)
        self._snapshots = Snapshots(self)
        self.regs = self._cpu.regs = Registers(self._cpu, self._registers_changed, self._jumped)
        if log is not None:
            from pytcg_threaded.dump import dump_form

            self._cpu.attach_log(log, dump_form)

    def __repr__(self) -> str:
        return f"<Cpu {self.mode} at {self.regs['rip']:#x}, {len(self.memory.regions)} regions>"

    @property
    def instructions(self) -> int:
        """Instructions run so far; one with a REP prefix counts once."""
        return self._instructions

    # Registers ---------------------------------------------------------------------------------

    def _registers_changed(self) -> None:
        """Something that other state derives from: before the next instruction it is settled."""
        self._dirty = True
        if self._owner_thread:
            self._cpu.poke(stop=True)

    def _jumped(self, pc: int) -> None:
        """rip was written: in a hook that is where to go on."""
        if self._owner_thread:
            self._jump = pc
            self._cpu.poke(stop=True)

    def save_context(self) -> Context:
        """All registers, for `restore_context`."""
        view = self._cpu.buffers["env"].view
        return Context(self.mode, self._words[_PC].to_bytes(8, "little")
                       + bytes(view[NEAR]) + bytes(view[FAR]))  # fmt: skip

    def restore_context(self, context: Context) -> None:
        """Registers as they were; of a processor of the same mode. Memory stays."""
        if not isinstance(context, Context) or context.mode != self.mode:
            raise CpuError("that is no context of a processor in this mode")
        view, far = self._cpu.buffers["env"].view, 8 + NEAR.stop - NEAR.start
        view[NEAR], view[FAR] = context.data[8:far], context.data[far:]
        self.regs["rip"] = int.from_bytes(context.data[:8], "little")
        self._registers_changed()

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked for the end of the run under way."""
        return bool(self._stopping)

    @property
    def jumping(self) -> bool:
        """Whether a hook has set rip."""
        return self._jump is not None

    def stop_all_exceptions(self) -> None:
        """Let every exception and INT stop the run, even if the guest has a handler for it."""
        self._cpu.state.set("stop_exceptions", 2)

    def forget_code(self) -> None:
        """Drop all translated code, which is made anew as it is needed."""
        self._flush = True
        self._registers_changed()

    def block_at(self, address: int) -> tuple[int, int, int]:
        """(address, instructions, bytes) of the translated block at an offset in CS.

        CpuError if there is no code.
        """
        from pytcg.exec.layout import TB
        from pytcg_x86.core.registers import StateView

        arena = self._cpu.buffers["arena"]
        tb = StateView(TB, arena.view[self._find_block(address) - arena.address :])
        return address, tb.get("insns"), tb.get("size")

    def _find_block(self, address: int) -> int:
        """Where the translated block at an offset in CS lies, for native code; CpuError."""
        if self._owner_thread:
            raise BusyError("the processor is running")
        self._take()
        try:
            if self._dirty or self._cpu.is_stale:
                self._settle()
            state, pc = self._cpu.state, self._words[_PC]
            self._words[_PC] = whole(address, "an address") & (1 << 64) - 1
            found = self._cpu.engine.call("tb_find", self._cpu.address)
            self._words[_PC] = pc
            failed = state.get("exception_pending") or state.get("exit_reason") == Exit.NOT_RAM
            state.set("exception_pending", 0)
            state.set("exit_reason", 0)
            if failed:
                raise CpuError(f"no code at {address:#x}")
            return found
        finally:
            self._release()

    def snapshot(self) -> Snapshot:
        """Registers, mappings and memory as they are now, for `restore`.

        It costs a page's copy for each page that is stored to afterwards. Hooks, and what devices
        remember, are not part of it.
        """
        return self._snapshots.take()

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a snapshot: the last one, an earlier one, or one of another branch.

        SnapshotError if it is another processor's.
        """
        if not isinstance(snapshot, Snapshot):
            raise CpuError(f"no snapshot: {snapshot!r}")
        self._snapshots.restore(snapshot)

    # Memory ------------------------------------------------------------------------------------

    def map(self, address: int, size: int, perm: str | Perm = "rwx", *,
            data: bytes | None = None) -> None:  # fmt: skip
        """Put ``size`` bytes of RAM at a physical address, in whole pages; MapError.

        It holds zeroes, or ``data`` at its beginning. ``perm`` is for the guest: "rwx", "rw".
        """
        perms = _perms(perm)
        raw = b"" if data is None else _bytes(data)
        if data is not None and len(raw) > whole(size, "a size"):
            raise MapError(f"{len(raw)} bytes of data are more than the region's {size}",
                           address, size)  # fmt: skip
        self.memory.map(address, size, perms)
        if raw:
            self.memory.write(address, raw)

    def map_buffer(self, address: int, buffer: Any, perm: str | Perm = "rwx") -> None:
        """Put a writable buffer itself, not a copy, at a physical address; MapError.

        What the guest stores is in the buffer and what is stored to it is seen by the guest, but
        for code that is translated already (use `write`). It begins at a page of the host and has
        whole pages, as a `mmap.mmap` does and ``np.frombuffer(mmap.mmap(-1, size), np.uint8)``; it
        may be shared with other processes. It is kept while it is mapped, and can't be resized.
        """
        self.memory.map_buffer(address, buffer, _perms(perm))
        if self._snapshots.current is not None:
            region = self.memory.find(address)
            assert region is not None
            self._cpu.engine.call("save_pages", self._cpu.address, region.offset, region.size)

    def map_mmio(self, address: int, size: int, read: Callable[[int, int], int] | None = None,
                 write: Callable[[int, int, int], object] | None = None, *,
                 handler: MmioHandler | None = None) -> None:  # fmt: skip
        """A device in whole pages: ``read(offset, size)`` and ``write(offset, size, value)``.

        Sizes are 1, 2, 4 and 8; without a function reads are 0 and writes have no effect.
        """
        perms = Perm.READ | Perm.WRITE
        self.memory.map_handler(address, size, perms, handler or Callbacks(read, write))

    def unmap(self, address: int, size: int) -> None:
        """Take memory away; all of it must be mapped. MapError."""
        self.memory.unmap(address, size)

    def protect(self, address: int, size: int, perm: str | Perm) -> None:
        """Change what the guest may do with memory; all of it must be mapped. MapError."""
        self.memory.protect(address, size, _perms(perm))

    @property
    def regions(self) -> list[Region]:
        """What is mapped, ascending; neighbours of the same kind are one."""
        return self.memory.joined()

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a physical address, whatever the permissions; UnmappedError."""
        if whole(size, "a size") < 0:
            raise CpuError(f"a size of {size} bytes")
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at a physical address; what was translated from there is forgotten."""
        self.memory.write(address, _bytes(data))
        if self.regs["cr0"] >> 31:
            self._registers_changed()  # they may be page tables

    def read_int(self, address: int, size: int = 8, *, signed: bool = False) -> int:
        """A little-endian number."""
        return int.from_bytes(self.read(address, size), "little", signed=signed)

    def write_int(self, address: int, value: int, size: int = 8) -> None:
        """A little-endian number, cut to ``size`` bytes."""
        if not 0 <= whole(size, "a size") < 1 << 20:
            raise CpuError(f"a size of {size} bytes")
        cut = whole(value, "a value") & (1 << 8 * size) - 1
        self.write(address, cut.to_bytes(size, "little"))

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        """Bytes up to a zero, without it, at most ``limit``."""
        address, limit, found = whole(address, "an address"), whole(limit, "a limit"), bytearray()
        while len(found) < limit:
            step = min(4096 - (address + len(found)) % 4096, limit - len(found))
            part = self.read(address + len(found), step)
            end = part.find(b"\0")
            if end >= 0:
                return bytes(found + part[:end])
            found += part
        return bytes(found)

    def view(self, address: int, size: int) -> npt.NDArray[Any]:
        """A numpy array (uint8) of guest memory itself, not a copy; one region. UnmappedError.

        Writes through it reach the guest's data at once, but not code that is translated already:
        use `write` for that. While views are alive memory can't grow past 16 GiB.
        """
        import numpy as np

        pieces = self.memory.pieces(address, size)
        if len(pieces) != 1:
            raise CpuError(f"{address:#x}+{size:#x} is not one region")
        at, length = pieces[0]
        array = np.frombuffer(self.memory.window.view, np.uint8, length, at)
        self._views.append((weakref.ref(array), at, length))
        if self._snapshots.current is not None:
            self._cpu.engine.call("save_pages", self._cpu.address, at, length)
        return array

    def live_views(self) -> list[tuple[int, int]]:
        """(window offset, size) of what others can write to: views still there, mapped buffers."""
        if self._views:
            self._views = [view for view in self._views if view[0]() is not None]
        return [*((at, length) for _, at, length in self._views),
                *((r.offset, r.size) for r in self.memory.regions if r.source is not None)]

    def _memory_changed(self) -> None:
        self._dirty = True
        if self._owner_thread:
            self._cpu.poke(stop=True)
        self._set_traps()

    def _set_traps(self) -> None:
        """Whether the state must be right at each instruction, as it may call Python."""
        wanted = int(self.hooks.need_pc or any(r.handler for r in self.memory.regions))
        if self._cpu.state.get("traps") != wanted:
            self._cpu.state.set("traps", wanted)
            self._flush = self._dirty = True

    def _grow(self, size: int) -> None:
        """A larger window: memory moves, so nothing may run or look at it."""
        if self._owner_thread:
            raise RamError("so much memory can't be mapped while the guest runs")
        if self._snapshots.current is not None:
            raise RamError("so much memory can't be mapped while there are snapshots")
        if self.live_views():
            raise RamError("so much memory can't be mapped while there are views of it, or "
                           "buffers of others in it")
        window = RamWindow(1 << (size - 1).bit_length(), huge=False)
        old = self.memory.window
        for region in self.memory.regions:
            if region.handler is None:
                window.take(old, region.offset, region.size)
        self._cpu.use_window(window)

    # Hooks: what `pytcg.library.hooks` needs -----------------------------------------------------

    def _bind_hook(self, hook: Hook) -> None:
        """Give a hook its code: a native function's, or a callback into Python."""
        from pytcg.exec.hooks import HookFlag
        from pytcg.exec.hooks import Hooks as Lists
        from pytcg_native.types import NativeFunction

        if hook.rows is not None:
            self._cpu.engine.attach([hook.rows])
        function = hook.function
        memory = hook.where is Lists.MEMORY
        if isinstance(function, NativeFunction):
            from pytcg.library.nativehook import native_hook

            hook.code = native_hook(self._cpu.engine, function, memory=memory)
            hook.flags |= HookFlag.NATIVE
            return
        if isinstance(function, RawCallback):
            kinds = ["u64", "u32", "i64"] if memory else ["u64", "u32"]
            hook.code, hook.keep = self._cpu.engine.callback("u64", kinds, function.call)
            return
        if not callable(function):
            raise CpuError(f"a hook is a function, not {function!r}")
        made = self._memory_callback(function) if memory else self._code_callback(function)
        kinds = ["u64", "u32", "u64"] if memory else ["u64", "u32"]
        hook.code, hook.keep = self._cpu.engine.callback("u64", kinds, made)

    def _code_callback(self, function: Callable[..., Any]) -> Callable[[int, int], int]:
        def call(address: int, size: int) -> int:
            try:
                result = function(self, address, size)
                return 1 if result is SKIP else 0
            except BaseException as error:  # surfaces from run
                self.raise_in_run(error)
                return 0

        return call

    def _memory_callback(self, function: Callable[..., Any]) -> Callable[[int, int, int], int]:
        words, at = self._words, PLACES["hook_value"] // 8

        def call(address: int, size: int, value: int) -> int:
            try:
                if size & WRITES:
                    result = function(self, "write", address, size & 0xFF, value)
                else:
                    result = function(self, "read", address, size, value)
                if result is None:
                    return 0
                words[at] = int(result) & (1 << 64) - 1
                return 1
            except BaseException as error:
                self.raise_in_run(error)
                return 0

        return call

    def raise_in_run(self, error: BaseException) -> None:
        """End the run with an exception: what a callback raised."""
        self._cpu.error = self._cpu.error or error
        self._cpu.poke(stop=True, now=True)

    def _set_hooks(self, table: HostBuffer, heads: dict[Lists, int]) -> None:
        self._cpu.engine.attach([table])
        for kind, address in heads.items():
            self._cpu.state.set("hooks", address, int(kind))

    def _hooks_changed(self, *, code: bool) -> None:
        self._dirty = True
        self._flush = self._flush or code
        self._set_traps()
        if self._owner_thread:
            self._cpu.poke(stop=True)

    # Running -----------------------------------------------------------------------------------

    def run(self, start: int | None = None, until: int | None = None, *,
            max_insns: int | None = None, timeout: float | None = None) -> Stop:  # fmt: skip
        """Run from ``start`` (default: rip), both offsets in CS, to ``until`` or ``max_insns``.

        ``timeout`` is in seconds. An instruction that faults and is delivered to a handler counts
        as one of ``max_insns``; one with a REP prefix counts once. Raises whatever a hook or
        another Python callback raised; BusyError if another thread runs this processor. A hook may
        call it: rip is then again what it was.
        """
        if max_insns is not None and whole(max_insns, "max_insns") < 0:
            raise CpuError(f"max_insns is {max_insns}")
        if self._owner_thread == get_ident():
            return self._nested(start, until, max_insns, timeout)
        self._take()
        try:
            return self._run(start, until, max_insns, timeout)
        finally:
            self._release()

    def step(self, count: int = 1) -> Stop:
        """Run ``count`` instructions."""
        return self.run(max_insns=count)

    def stop(self) -> None:
        """End the run under way, at the next instruction; from a hook, or from any thread."""
        self._stopping = self._stopping or "stop"
        self._cpu.poke(stop=True, now=True)

    def _take(self) -> None:
        """Make the calling thread the one that runs it; BusyError."""
        if not self._guard.acquire(False):
            raise BusyError("the processor is running already, in another thread")
        self._owner_thread = get_ident()

    def _release(self) -> None:
        self._owner_thread = 0
        self._guard.release()
        self.hooks.forget_old()

    def _nested(self, start: int | None, until: int | None, max_insns: int | None,
                timeout: float | None) -> Stop:  # fmt: skip
        """A run in a hook: the outer one's blocks stay where they are, and it goes on after it."""
        words, at = self._words, PLACES
        kept = {name: words[at[name] // 8] for name in (
            "pc", "budget", "arena_floor", "code_floor", "fault_record", "hook_skip",
            "retired")}  # fmt: skip
        soft, until_before, jump = self._halves[_SOFT], self._until, self._jump
        stopping = self._stopping
        if words[at["arena_used"] // 8] > _DEEP:
            raise CpuError("too many runs within runs")
        for name in ("arena", "code"):
            words[at[f"{name}_floor"] // 8] = words[at[f"{name}_used"] // 8]
        try:
            return self._run(start, until, max_insns, timeout)
        finally:
            for name, value in kept.items():
                words[at[name] // 8] = value
            self._halves[_SOFT] = soft
            self._halves[at["exit_reason"] // 4] = 0
            self._set_until(until_before)
            self._flush = self._flush or words[at["arena_used"] // 8] > _DEEP // 2
            self._dirty = self._dirty or self._flush
            self._jump, self._stopping = jump, stopping
            self._cpu.poke(stop=True)  # what follows may have been translated anew

    def _run(self, start: int | None, until: int | None, max_insns: int | None,
             timeout: float | None) -> Stop:  # fmt: skip
        if start is not None:
            try:
                self._words[_PC] = start
            except (ValueError, TypeError):
                raise CpuError(f"no address to start at: {start!r}") from None
        words = self._words
        words[_HOOK_SKIP] = words[_BLOCK_SKIP] = NO_PC
        if self.debugger is not None:
            self.debugger.prepare()
        self._jump, self._stopping = None, ""
        if until != self._until:
            self._set_until(until)
        self._cpu.begin_run()
        timer = None
        if timeout is not None:
            timer = Timer(seconds(timeout, "timeout"), self._time_out)
            timer.daemon = True
            timer.start()
        try:
            return self._execute(_FOREVER if max_insns is None else max_insns)
        finally:
            if timer is not None:
                timer.cancel()

    def _time_out(self) -> None:
        self._stopping = self._stopping or "timeout"
        self._cpu.poke(stop=True)

    def _set_until(self, until: int | None) -> None:
        if until is not None and not 0 <= whole(until, "an address to stop at") < 1 << 64:
            raise CpuError(f"no address to stop at: {until!r}")
        self._settle()
        self._cpu.engine.call("set_until", self._cpu.address, int(until is not None), until or 0)
        self._until = until

    def _settle(self) -> None:
        """Make what derives from registers, memory and hooks true again."""
        flush, self._flush, self._dirty = self._flush, False, False
        self._cpu.settle(flush=flush)

    def _execute(self, left: int) -> Stop:
        """Run in slices, so that Python sees signals (Ctrl-C) between them."""
        cpu, words = self._cpu, self._words
        while True:
            if self._dirty or cpu.is_stale:
                self._settle()
            budget = left if left < _SLICE else _SLICE
            words[_BUDGET] = budget
            words[_RETIRED] = self._instructions + budget
            self._halves[_SOFT] = left > _SLICE
            try:
                reason = cpu.execute()
            finally:
                rest = words[_BUDGET]
                done = budget - (rest if rest < 1 << 63 else rest - (1 << 64))
                self._instructions += done
                left -= done
                if self._jump is not None:
                    self._apply_jump()
                    reason = Exit.REQUEST
            if reason is Exit.REQUEST:
                if self._stopping:
                    return self._stop(self._stopping)
                self._cpu.begin_run()
            elif reason is Exit.UNHANDLED:
                stop = self._fault()
                if stop is not None:
                    return stop
            elif reason is Exit.DEBUG:
                return self._debugged()
            elif reason in _KINDS and (reason is not Exit.BUDGET or left <= 0):
                return self._stop(_KINDS[reason])
            elif reason is Exit.NOT_RAM:
                raise DeviceCodeError(f"rip {self.regs['rip']:#x} is in a device's memory, from "
                                      "which no code can be run")  # fmt: skip
            elif reason not in (Exit.BUDGET, Exit.SLICE):
                raise CpuError(f"stopped by {reason.name} at rip {self.regs['rip']:#x}")
            if left <= 0:
                return self._stop("limit")

    def _debugged(self) -> Stop:
        """A debugger's point: a breakpoint, or an access, whose instruction is run first."""
        assert self.debugger is not None
        if self.debugger.take():
            with self.debugger.stepping(watching=False):
                self._cpu.begin_run()
                stop = self._execute(1)
            if stop.kind != "limit":
                return stop
        hit = self.debugger.hit
        assert hit is not None
        stop = self._stop("watchpoint" if hit.access else "breakpoint")
        if hit.access:
            stop.access, stop.address = hit.access, hit.address
        return stop

    def _apply_jump(self) -> None:
        """A hook has set rip: go on there."""
        assert self._jump is not None
        self._words[_PC], self._jump = self._jump, None
        self._words[_HOOK_SKIP] = self._words[_BLOCK_SKIP] = NO_PC

    def _stop(self, kind: str) -> Stop:
        return Stop(kind, self._words[_PC], describe=self._describe)

    def _describe(self, rip: int) -> tuple[bytes, int]:
        """The bytes at rip, and how wide code is, for a `Stop`'s text."""
        state = self._cpu.state
        linear = (state.get("code_base") + rip) & state.get("linear_mask")
        code = b""
        for size in (15, 4096 - linear % 4096):
            try:
                code = self.memory.read(linear, min(size, 15))
                break
            except CpuError:
                continue
        return code, self.code_bits

    def attach_debugger(self) -> Debugger:
        """Its `Debugger`: runs then also stop with "breakpoint" and "watchpoint"."""
        from pytcg.exec.debugger import Debugger

        if self.debugger is None:
            self.debugger = Debugger(self._cpu, lambda: self.hooks.publish(code=False))
        return self.debugger

    def has(self, feature: str) -> bool:
        """Whether the CPU model has a feature, by its name for `-cpu`: "avx", "lm"."""
        return isinstance(feature, str) and self._cpu.has(feature)

    @property
    def code_bits(self) -> int:
        """The width of the code that runs: 16, 32 or 64."""
        mode = self._cpu.state.get("mode")
        return 64 if mode & 2 else 32 if mode & 1 else 16

    def translate(self, linear: int) -> int | None:
        """The physical address of a linear one by the guest's page tables; None without a page."""
        from pytcg.machine.virtual import physical_address

        try:
            return physical_address(self.memory, self.regs, whole(linear, "an address"))
        except CpuError:
            return None  # tables that are no memory

    def serve_gdb(self, port: int | str = 1234, host: str = "127.0.0.1", *, record: bool = False,
                  started: Callable[[Listening], object] | None = None) -> None:  # fmt: skip
        """Serve GDB until it detaches, kills or goes: ``target remote :1234``.

        ``port`` is TCP's, 0 for any that is free, or the path of a UNIX socket; ``started`` is told
        where it listens. With ``record`` GDB may go backwards. Python hooks are called as ever;
        what they raise surfaces here. OSError if it can't listen.
        """
        from pytcg.gdbstub.library import serve

        serve(self, port, host, record=record, started=started)

    # Programs ----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return bool(self._owner_thread)

    def asm(self, text: str, *, address: int = 0,
            symbols: Mapping[str, int] | None = None) -> bytes:  # fmt: skip
        """Machine code of assembly text in Intel syntax, for this mode and ``address``.

        Statements are parted by ``;`` or newlines; ``symbols`` names addresses. AssemblyError.
        """
        from pytcg.library.assembler import assemble

        if not isinstance(text, str):
            raise AssemblyError(f"assembly is a string, not {text!r}")
        bits = {"real": 16, "protected": 32, "long": 64}[self.mode]
        return assemble(text, bits, address, tuple(sorted((symbols or {}).items())))

    def call(self, address: int, *args: Argument, abi: str | None = None, floating: bool = False,
             max_insns: int | None = None,
             timeout: float | None = None) -> int | float:  # fmt: skip
        """Call the function at ``address`` and return what it returns.

        ``abi`` is "sysv64" (default in long mode), "win64", "cdecl" (default in protected mode),
        "stdcall" or "fastcall". Arguments are ints, floats (as doubles), and bytes and strings, of
        which it gets the address. ``floating``: the result is a double (XMM0 or ST0). Uses rSP if
        1 MiB below it is mapped, else a stack of its own. Raises GuestFault if the code ends
        otherwise than by returning.
        """
        from pytcg.library import call

        return call.call(self, address, args, abi or call.default_abi(self), floating=floating,
                         max_insns=max_insns, timeout=timeout)  # fmt: skip

    def load(self, source: str | Path | bytes, *, base: int | None = None,
             kind: str = "auto") -> Image:  # fmt: skip
        """Map a program file (a path, or its bytes): "elf", "pe" or "raw".

        Position-independent files and raw bytes go to ``base``. LoadError for what can't be loaded.
        """
        from pytcg.library.loader import load

        return load(self, source, base=base, kind=kind)

    # Faults ------------------------------------------------------------------------------------

    def _fault(self) -> Stop | None:
        """An exception without a handler: hooks may handle it (None), else the run ends."""
        state, rip = self._cpu.state, self._words[_PC]
        stop = self._stop("exception")
        stop.vector = vector = state.get("exception_vector")
        if state.get("exception_has_error"):
            stop.error_code = state.get("exception_error")
        if vector == 14 and stop.error_code is not None:
            error = state.get("exception_error")
            stop.address = state.get("exception_address")
            stop.unmapped = bool(state.get("unmapped"))
            stop.access = "fetch" if error & 16 else "write" if error & 2 else "read"
            size = state.get("access_size")
            stop.size = None if error & 16 else size & 0xFF
            stop.modifies = bool(error & 2 and size & MODIFIES)
            stop.value = state.get("access_value") if error & 2 else None
            if stop.modifies:
                stop.value = 0
        length = self.interrupt_length(rip) if self.hooks.has_interrupts else 0
        handled = False
        if length and stop.error_code is None:
            self._words[_PC] = rip + length
            handled = self.hooks.handle_interrupt(vector)
            if not handled:
                self._words[_PC] = rip
        if not handled and stop.access == "fetch" and rip == self._until:
            return self._stop("until")  # which need not be memory
        if not handled and not self.hooks.handle_fault(stop):
            return stop
        if self._jump is not None:
            self._apply_jump()
        if self._stopping:
            return self._stop(self._stopping)
        self._cpu.begin_run()
        return None

    def interrupt_length(self, rip: int) -> int:
        """The length of the INT, INT3, INTO or INT1 at rip; 0 if it is none."""
        code, _ = self._describe(rip)
        at = 0
        while at < len(code) and (code[at] in _PREFIXES):
            at += 1
        if at >= len(code) or code[at] not in _SOFTWARE:
            return 0
        return at + 1 + (code[at] == 0xCD)


def _bytes(data: object) -> bytes:
    """Data to store; CpuError. A number is no data: Python would make so many zeroes of it."""
    try:
        if isinstance(data, int):
            raise TypeError(f"{data!r} is a number")
        return bytes(data)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError) as error:
        raise CpuError(f"no bytes to write: {error}") from None


def _perms(perm: str | Perm) -> Perm:
    try:
        return Perm.parse(perm) if isinstance(perm, str) else Perm(perm) & RWX
    except (ValueError, TypeError) as error:
        raise CpuError(str(error)) from None
