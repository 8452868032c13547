"""`Uc`: Unicorn 2's engine for the x86 guest, a `pytcg.Cpu` inside."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index
from typing import Any

from pytcg.cpu import Cpu
from pytcg.errors import BusyError, CpuError, DeviceCodeError, MapError, UnmappedError
from pytcg.library.bus import Callbacks
from pytcg.library.stop import Stop
from pytcg.softmmu.perm import Perm
from pytcg.unicorn import registers
from pytcg.unicorn import unicorn_const as uc
from pytcg.unicorn.context import MODES, UcContext
from pytcg.unicorn.error import UcError
from pytcg.unicorn.hooks import UcHooks, seen_access
from pytcg.unicorn.shadow import Shadows, is_page
from pytcg.unicorn.x86_const import UC_CPU_X86_ENDING, UC_CPU_X86_HASWELL, UC_X86_REG_MSR

_PAGE = 0x1000
_ALL = (1 << 64) - 1
_MEMORY_ERRORS = {
    ("read", False): uc.UC_ERR_READ_UNMAPPED, ("read", True): uc.UC_ERR_READ_PROT,
    ("write", False): uc.UC_ERR_WRITE_UNMAPPED, ("write", True): uc.UC_ERR_WRITE_PROT,
    ("fetch", False): uc.UC_ERR_FETCH_UNMAPPED, ("fetch", True): uc.UC_ERR_FETCH_PROT,
}  # fmt: skip


def uc_version() -> tuple[int, int, int]:
    """The version of Unicorn whose interface this is."""
    return uc.UC_VERSION_MAJOR, uc.UC_VERSION_MINOR, uc.UC_VERSION_PATCH


def version_bind() -> tuple[int, int, int]:
    return uc.UC_API_MAJOR, uc.UC_API_MINOR, uc.UC_API_PATCH


def uc_arch_supported(atype: int) -> bool:
    """Whether there is a guest of that architecture."""
    return atype == uc.UC_ARCH_X86


def debug() -> str:
    return f"pytcg-x86-b{uc.UC_API_MAJOR}.{uc.UC_API_MINOR}"


def ucsubclass(cls: type) -> type:
    """Subclasses of `Uc` need nothing special here."""
    return cls


class Uc:
    """A processor, its memory and its hooks; UcError where Unicorn raises it."""

    def __init__(self, arch: int, mode: int, cpu: int | None = None):
        if arch != uc.UC_ARCH_X86:
            raise UcError(uc.UC_ERR_ARCH)
        if mode not in MODES:
            raise UcError(uc.UC_ERR_MODE)
        self._arch = arch
        self._mode = mode
        self._model = UC_CPU_X86_HASWELL
        self._cpu = Cpu(MODES[mode], stop_exceptions=True)
        self._cpu.stop_all_exceptions()
        self._errno = uc.UC_ERR_OK
        self._timed_out = False
        self._exits: set[int] | None = None
        self._timeout = 0
        self._hooks = UcHooks(self, self._cpu)
        self._shadows = Shadows(self._cpu)
        self._set_up()
        if cpu is not None:
            self.ctl_set_cpu_model(cpu)

    def _set_up(self) -> None:
        """What Unicorn's registers hold at first, where a `Cpu` has other things."""
        regs = self._cpu.regs
        for name in ("cs", "ss", "ds", "es", "fs", "gs"):
            regs[name] = 0
        for name in ("ldtr", "tr"):
            regs[f"{name}.limit"] = regs[f"{name}.attr"] = 0
        regs.fcw, regs.mxcsr = 0x37F, 0x1F80

    @property
    def errno(self) -> int:
        """The last error's number."""
        return self._errno

    @property
    def cpu(self) -> Cpu:
        """The `pytcg.Cpu` inside, for what Unicorn's interface does not have."""
        return self._cpu

    def _fail(self, errno: int, *args: object) -> UcError:
        self._errno = errno
        return UcError(errno, *args)

    # Running -----------------------------------------------------------------------------------

    def emu_start(self, begin: int, until: int, timeout: int = 0, count: int = 0) -> None:
        """Run from ``begin`` to ``until``; ``timeout`` in microseconds, ``count`` instructions."""
        cpu = self._cpu
        base = cpu.regs["cs.base"] if self._mode != uc.UC_MODE_64 else 0
        self._timed_out, self._timeout = False, timeout
        self._hooks.error = 0
        self._hooks.begin()
        stop_at = None if self._exits is not None else self._offset(until, base)
        self._shadows.take()
        try:
            stop = cpu.run(self._offset(begin, base), stop_at,
                           max_insns=count if count > 0 else None,
                           timeout=timeout / uc.UC_SECOND_SCALE if timeout > 0 else None)
            if stop.kind == "limit":
                stop = self._fetch(stop, stop_at)
        except DeviceCodeError:
            raise self._fail(uc.UC_ERR_FETCH_UNMAPPED) from None
        except BusyError as error:
            raise self._fail(uc.UC_ERR_RESOURCE, str(error)) from None
        finally:
            self._shadows.give()
        self._timed_out = stop.kind == "timeout"
        self._errno = self._hooks.error or self._error_of(stop)
        if self._errno:
            raise UcError(self._errno)

    def _fetch(self, stop: Stop, stop_at: int | None) -> Stop:
        """What follows the last one of a count is fetched, though not run: it must be there."""
        cpu = self._cpu
        linear = (cpu.regs["cs.base"] if self._mode != uc.UC_MODE_64 else 0) + stop.rip
        region = cpu.memory.find(linear)
        if region is not None and region.perms & Perm.EXECUTE:
            return stop
        if cpu.regs["cr0"] >> 31 or linear in (self._exits or ()):
            return stop
        with cpu.hooks.address(linear, lambda cpu, _at, _size: cpu.stop()):
            return cpu.run(stop.rip, stop_at, max_insns=1)

    def _offset(self, address: int, base: int) -> int:
        """A linear address as an offset in CS."""
        mask = _ALL if self._mode == uc.UC_MODE_64 else 0xFFFF_FFFF
        return (address - base) & mask

    def _error_of(self, stop: Stop) -> int:
        if stop.kind == "shutdown":
            return uc.UC_ERR_EXCEPTION
        if stop.kind != "exception":
            return uc.UC_ERR_OK
        if stop.unmapped:
            assert stop.access is not None and stop.error_code is not None
            return _MEMORY_ERRORS[seen_access(stop), bool(stop.error_code & 1)]
        if stop.error_code is None and (length := self._cpu.interrupt_length(stop.rip)):
            self._cpu.regs.rip = stop.rip + length  # it has happened
        return uc.UC_ERR_INSN_INVALID if stop.vector == 6 else uc.UC_ERR_EXCEPTION

    def emu_stop(self) -> None:
        """End the run under way."""
        self._cpu.stop()

    # Registers ---------------------------------------------------------------------------------

    def reg_read(self, reg_id: int, aux: Any = None) -> Any:
        return registers.read(self._cpu.regs, reg_id, aux)

    def reg_write(self, reg_id: int, value: Any) -> None:
        registers.write(self._cpu, reg_id, value)

    def reg_read_batch(self, reg_data: Sequence[int | tuple[int, Any]]) -> tuple[Any, ...]:
        return registers.read_batch(self._cpu.regs, reg_data)

    def reg_write_batch(self, reg_data: Iterable[tuple[int, Any]]) -> None:
        registers.write_batch(self._cpu, reg_data)

    def msr_read(self, msr_id: int) -> int:
        return int(self.reg_read(UC_X86_REG_MSR, msr_id))

    def msr_write(self, msr_id: int, value: int) -> None:
        self.reg_write(UC_X86_REG_MSR, (msr_id, value))

    # Memory ------------------------------------------------------------------------------------

    def mem_map(self, address: int, size: int, perms: int = uc.UC_PROT_ALL) -> None:
        assert (perms & ~uc.UC_PROT_ALL) == 0, "unexpected perms bitmask"
        self._check_range(address, size)
        try:
            self._cpu.map(address, size, Perm(perms))
        except MapError as error:
            raise self._fail(_map_error(error)) from None

    def mem_map_ptr(self, address: int, size: int, perms: int, ptr: Any) -> None:
        """Host memory that is guest memory: itself if ``ptr`` is a page's, else see `shadow`."""
        self._check_range(address, size)
        number = ptr if isinstance(ptr, int) else ctypes.cast(ptr, ctypes.c_void_p).value
        if not number:
            raise self._fail(uc.UC_ERR_ARG)
        if not is_page(number, size):
            self.mem_map(address, size, perms)
            self._shadows.add(address, size, number)
            return
        # The caller answers for the memory at ``ptr``, as it does in Unicorn.
        memory = (ctypes.c_char * size).from_address(number)
        try:
            self._cpu.map_buffer(address, memory, Perm(perms))
        except MapError as error:
            raise self._fail(_map_error(error)) from None

    def mem_unmap(self, address: int, size: int) -> None:
        if size == 0:
            return
        self._check_range(address, size)
        self._shadows.give()
        try:
            self._cpu.unmap(address, size)
        except MapError:
            raise self._fail(uc.UC_ERR_NOMEM) from None
        self._shadows.forget(address, size)

    def mem_protect(self, address: int, size: int, perms: int = uc.UC_PROT_ALL) -> None:
        assert (perms & ~uc.UC_PROT_ALL) == 0, "unexpected perms bitmask"
        if size == 0:
            return
        self._check_range(address, size)
        try:
            self._cpu.protect(address, size, Perm(perms))
        except MapError:
            raise self._fail(uc.UC_ERR_NOMEM) from None

    def _check_range(self, address: int, size: int) -> None:
        if size <= 0 or (address | size) % _PAGE or address < 0 or address + size > 1 << 64:
            raise self._fail(uc.UC_ERR_ARG)

    def mmio_map(self, address: int, size: int,
                 read_cb: Callable[..., int] | None, read_ud: Any,
                 write_cb: Callable[..., Any] | None, write_ud: Any) -> None:  # fmt: skip
        """A device: read_cb(uc, offset, size, data), write_cb(uc, offset, size, value, data)."""
        self._check_range(address, size)
        read = write = None

        def piece(offset: int) -> int:
            """What is left of a device that was cut counts from its own beginning."""
            found = self._cpu.memory.find(address + offset)
            return address + offset - found.address if found is not None else offset

        if read_cb is not None:
            def read(offset: int, width: int) -> int:
                return read_cb(self, piece(offset), width, read_ud)
        if write_cb is not None:
            def write(offset: int, width: int, value: int) -> None:
                write_cb(self, piece(offset), width, value, write_ud)
        try:
            self._cpu.map_mmio(address, size, handler=Callbacks(read, write))
        except MapError as error:
            raise self._fail(_map_error(error)) from None

    def mem_regions(self) -> Iterator[tuple[int, int, int]]:
        """(first address, last address, permissions) of each."""
        for region in list(self._cpu.memory.regions):
            yield region.address, region.end - 1, int(region.perms)

    def mem_read(self, address: int, size: int) -> bytearray:
        address, size = index(address), index(size)
        if size < 0:
            raise self._fail(uc.UC_ERR_ARG, address, size)
        self._shadows.take()
        try:
            return bytearray(self._cpu.memory.read(address, size))
        except UnmappedError:
            if self._is_device(address, size):
                return self._device_read(address, size)
            raise self._fail(uc.UC_ERR_READ_UNMAPPED, address, size) from None

    def mem_write(self, address: int, data: bytes) -> None:
        """TypeError if ``data`` is no buffer, as in Unicorn."""
        address, data = index(address), bytes(memoryview(data))
        self._shadows.take()
        try:
            self._cpu.write(address, data)
            self._shadows.give()
        except UnmappedError:
            if self._is_device(address, len(data)):
                self._device_write(address, data)
                return
            raise self._fail(uc.UC_ERR_WRITE_UNMAPPED, address, len(data)) from None

    def _is_device(self, address: int, size: int) -> bool:
        region = self._cpu.memory.find(address)
        return region is not None and region.handler is not None and address + size <= region.end

    def _device_read(self, address: int, size: int) -> bytearray:
        """Device memory, four bytes at a time where that many are left."""
        found = bytearray()
        while len(found) < size:
            step = 4 if size - len(found) >= 4 else 1
            value = self._cpu.bus.read_mmio(address + len(found), step)
            found += value.to_bytes(step, "little")
        return found

    def _device_write(self, address: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            step = 4 if len(data) - at >= 4 else 1
            value = int.from_bytes(data[at : at + step], "little")
            self._cpu.bus.write_mmio(address + at, step, value)
            at += step

    # Hooks -------------------------------------------------------------------------------------

    def hook_add(self, htype: int, callback: Callable[..., Any], user_data: Any = None,
                 begin: int = 1, end: int = 0, aux1: int = 0, aux2: int = 0) -> int:  # fmt: skip
        """A handle; ``begin`` > ``end`` is everywhere. UcError for kinds there are not."""
        return self._hooks.add(htype, callback, user_data, begin, end, aux1, aux2)

    def hook_del(self, handle: int) -> None:
        self._hooks.remove(handle)

    # Contexts and controls ---------------------------------------------------------------------

    def context_save(self) -> UcContext:
        return UcContext(self._mode, self._cpu.save_context().data)

    def context_update(self, context: UcContext) -> None:
        context.take(self._cpu)

    def context_restore(self, context: UcContext) -> None:
        try:
            self._cpu.restore_context(context.saved())
        except CpuError:
            raise self._fail(uc.UC_ERR_ARG) from None

    def query(self, prop: int) -> int:
        answers = {uc.UC_QUERY_MODE: self._mode, uc.UC_QUERY_PAGE_SIZE: _PAGE,
                   uc.UC_QUERY_ARCH: self._arch,
                   uc.UC_QUERY_TIMEOUT: int(self._timed_out)}  # fmt: skip
        if prop not in answers:
            raise self._fail(uc.UC_ERR_ARG, prop)
        return answers[prop]

    def ctl_get_mode(self) -> int:
        return self._mode

    def ctl_get_arch(self) -> int:
        return self._arch

    def ctl_get_page_size(self) -> int:
        return _PAGE

    def ctl_set_page_size(self, val: int) -> None:
        raise self._fail(uc.UC_ERR_ARG)  # ARM's only, in Unicorn too

    def ctl_get_timeout(self) -> int:
        """Of the last run, in nanoseconds."""
        return self._timeout * 1000

    def ctl_exits_enabled(self, enable: bool) -> None:
        """Stop at the addresses of `ctl_set_exits` rather than at ``until``."""
        self._exits = (self._exits or set()) if enable else None
        self._hooks.set_exits(self._exits or ())

    def ctl_get_exits_cnt(self) -> int:
        return len(self._known_exits())

    def ctl_get_exits(self) -> tuple[int, ...]:
        return tuple(sorted(self._known_exits()))

    def ctl_set_exits(self, exits: Sequence[int]) -> None:
        self._known_exits()
        self._exits = {address & _ALL for address in exits}
        self._hooks.set_exits(self._exits)

    def _known_exits(self) -> set[int]:
        if self._exits is None:
            raise self._fail(uc.UC_ERR_ARG)
        return self._exits

    def ctl_get_cpu_model(self) -> int:
        return self._model

    def ctl_set_cpu_model(self, model: int) -> None:
        """Checked and kept: the processor always has every feature there is."""
        if not 0 <= model < UC_CPU_X86_ENDING:
            raise self._fail(uc.UC_ERR_ARG)
        self._model = model

    def ctl_remove_cache(self, lbound: int, ubound: int) -> None:
        if lbound >= ubound:
            raise self._fail(uc.UC_ERR_ARG)
        self._cpu.forget_code()

    def ctl_request_cache(self, addr: int) -> tuple[int, int, int]:
        """(address, instructions, bytes) of the block at an address."""
        try:
            return self._cpu.block_at(addr)
        except CpuError:
            raise self._fail(uc.UC_ERR_ARG) from None

    def ctl_flush_tb(self) -> None:
        self._cpu.forget_code()

    def ctl_flush_tlb(self) -> None:
        self._cpu.forget_code()

    def ctl_set_tlb_mode(self, mode: int) -> None:
        if mode not in (uc.UC_TLB_CPU, uc.UC_TLB_VIRTUAL):
            raise self._fail(uc.UC_ERR_ARG)

    def ctl_tlb_mode(self, mode: int) -> None:
        self.ctl_set_tlb_mode(mode)

    def ctl_get_tcg_buffer_size(self) -> int:
        return self._cpu._cpu.buffers["arena"].size

    def ctl_set_tcg_buffer_size(self, size: int) -> None:
        """Accepted without effect."""


def _map_error(error: MapError) -> int:
    return uc.UC_ERR_MAP if "overlaps" in str(error) else uc.UC_ERR_NOMEM
