"""Unicorn's C interface on `pytcg.unicorn`, for C programs that are loaded into this process.

`Library` compiles a C program with one jump through a table for each ``uc_…`` function, fills the
table with callbacks and calls the program's ``main``: Unicorn's C samples and unit tests run so,
unchanged. What the Python binding does not have (snapshots of memory in contexts) is refused.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pytcg.unicorn import Uc, UcContext, UcError, uc_arch_supported, x86_const
from pytcg.unicorn import unicorn_const as uc
from pytcg_x86.core.registers import SLOTS

_U64, _U32, _INT, _PTR = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p
_CODE = ctypes.CFUNCTYPE(None, _PTR, _U64, _U32, _PTR)
_MEMORY = ctypes.CFUNCTYPE(ctypes.c_bool, _PTR, _INT, _U64, _INT, ctypes.c_int64, _PTR)
_INTR = ctypes.CFUNCTYPE(None, _PTR, _U32, _PTR)
_INVALID = ctypes.CFUNCTYPE(ctypes.c_bool, _PTR, _PTR)
_IN = ctypes.CFUNCTYPE(_U32, _PTR, _U32, _INT, _PTR)
_OUT = ctypes.CFUNCTYPE(None, _PTR, _U32, _INT, _U32, _PTR)
_CALL = ctypes.CFUNCTYPE(_INT, _PTR, _PTR)
_MMIO_READ = ctypes.CFUNCTYPE(_U64, _PTR, _U64, _U32, _PTR)
_MMIO_WRITE = ctypes.CFUNCTYPE(None, _PTR, _U64, _U32, _U64, _PTR)
_OPCODE = ctypes.CFUNCTYPE(None, _PTR, _U64, _U64, _U64, _U32, _PTR)


class _Block(ctypes.Structure):
    """uc_tb."""

    _fields_ = [("pc", _U64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16)]


_EDGE = ctypes.CFUNCTYPE(None, _PTR, ctypes.POINTER(_Block), ctypes.POINTER(_Block), _PTR)
_NAMES = {number: name[11:] for name, number in vars(x86_const).items()
          if name.startswith("UC_X86_REG_")}  # fmt: skip
_TABLE = ("GDTR", "IDTR", "LDTR", "TR")
_SIZES = {"EFLAGS": 4, "FLAGS": 2, "RFLAGS": 8, "MXCSR": 4, "FPSW": 2, "FPCW": 2, "FPTAG": 2,
          "FS_BASE": 8, "GS_BASE": 8, "CS": 2, "DS": 2, "ES": 2, "FS": 2, "GS": 2, "SS": 2,
          "FIP": 8, "FDP": 8, "FCS": 2, "FDS": 2, "FOP": 2}  # fmt: skip


def _get(address: int, size: int = 8) -> int:
    return int.from_bytes(ctypes.string_at(address, size), "little")


def _put(address: int, value: int, size: int = 8) -> None:
    ctypes.memmove(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), size)


def _size(name: str, mode: int) -> int:
    """Bytes of a register in C."""
    slot = SLOTS.get(name.lower())
    if name[:3] in ("XMM", "YMM"):
        return 16 if name[0] == "X" else 32
    if name[:2] in ("CR", "DR"):
        return 8 if mode == uc.UC_MODE_64 else 4
    return _SIZES.get(name) or (slot.size if slot is not None else 8)


def _load(number: int, address: int, mode: int) -> Any:
    """A value for reg_write from C's memory."""
    name = _NAMES.get(number, "")
    if name in _TABLE:  # uc_x86_mmr
        return (_get(address, 2), _get(address + 8), _get(address + 16, 4), _get(address + 20, 4))
    if name == "MSR":
        return _get(address, 4), _get(address + 8)
    if name[:2] in ("FP", "ST") and name[-1].isdigit():
        return (_get(address), _get(address + 8, 2)) if name[0] == "F" else _get(address)
    return _get(address, _size(name, mode))


def _store(number: int, address: int, mode: int, value: Any) -> None:
    name = _NAMES.get(number, "")
    if name in _TABLE:
        for at, size, part in zip((0, 8, 16, 20), (2, 8, 4, 4), value, strict=True):
            _put(address + at, part, size)
    elif isinstance(value, tuple):
        _put(address, value[0])
        _put(address + 8, value[1], 2)
    else:
        _put(address + 8 * (name == "MSR"), value, 8 if name == "MSR" else _size(name, mode))


class Library:
    """The functions, and what the C program's handles stand for."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}
        self._next = 0x1000
        self._keep: list[Any] = []
        self._errors: dict[int, bytes] = {}

    def names(self) -> Iterator[str]:
        """Of the functions there are."""
        return (name for name in dir(self) if name.startswith("uc_"))

    def run(self, source: Path, include: Sequence[Path], folder: Path, *arguments: str) -> int:
        """Compile a C program and call its main."""
        names = list(self.names())
        stubs = folder / "stubs.s"
        stubs.write_text("".join(f".globl {name}\n{name}: jmp *uc_table+{8 * at}(%rip)\n"
                                 for at, name in enumerate(names))
                         + f".globl uc_table\n.bss\n.balign 8\nuc_table: .space {8 * len(names)}\n"
                         + '.section .note.GNU-stack,"",@progbits\n')  # fmt: skip
        program = folder / f"{source.stem}.so"
        subprocess.run(["gcc", "-w", "-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-o", program,
                        *(f"-I{path}" for path in include), source, stubs, "-lm", "-lpthread"],
                       check=True)  # fmt: skip
        loaded = ctypes.CDLL(str(program))
        table = (_U64 * len(names)).in_dll(loaded, "uc_table")
        for at, name in enumerate(names):
            result = ctypes.c_char_p if name == "uc_strerror" else _INT
            made = ctypes.CFUNCTYPE(result, *[_U64] * 9)(self._guarded(getattr(self, name)))
            self._keep.append(made)
            table[at] = ctypes.cast(made, _PTR).value
        words = [source.stem.encode(), *(word.encode() for word in arguments)]
        status = loaded.main(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None))
        ctypes.CDLL(None).fflush(None)
        return int(status)

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: int) -> Any:
            wanted = function.__code__.co_argcount - 1
            try:
                answer = function(*arguments[:wanted])
                return uc.UC_ERR_OK if answer is None else answer
            except UcError as error:
                return error.errno
            except AssertionError:
                return uc.UC_ERR_ARG

        return call

    def _new(self, thing: Any) -> int:
        self._next += 0x10
        self._things[self._next] = thing
        return self._next

    # Engines -------------------------------------------------------------------------------------

    def uc_open(self, arch: int, mode: int, result: int) -> None:
        _put(result, self._new(Uc(arch & 0xFFFF_FFFF, mode & 0xFFFF_FFFF)))

    def uc_close(self, handle: int) -> None:
        del self._things[handle]

    def uc_version(self, major: int, minor: int) -> int:
        return uc.UC_API_MAJOR << 24 | uc.UC_API_MINOR << 16

    def uc_arch_supported(self, arch: int) -> int:
        return int(uc_arch_supported(arch & 0xFFFF_FFFF))

    def uc_errno(self, handle: int) -> int:
        return int(self._things[handle].errno)

    def uc_strerror(self, number: int) -> bytes:
        return self._errors.setdefault(number, str(UcError(number & 0xFFFF_FFFF)).encode())

    def uc_query(self, handle: int, which: int, result: int) -> None:
        _put(result, self._things[handle].query(which & 0xFFFF_FFFF))

    def uc_free(self, address: int) -> None:
        self._things.pop(address, None)

    def uc_emu_start(self, handle: int, begin: int, until: int, timeout: int, count: int) -> None:
        self._things[handle].emu_start(begin, until, timeout, count)

    def uc_emu_stop(self, handle: int) -> None:
        self._things[handle].emu_stop()

    # Registers -----------------------------------------------------------------------------------

    def _read(self, engine: Uc, number: int, address: int) -> None:
        aux = _get(address, 4) if _NAMES.get(number) == "MSR" else None
        _store(number, address, engine.ctl_get_mode(), engine.reg_read(number, aux))

    def uc_reg_read(self, handle: int, number: int, address: int) -> None:
        self._read(self._things[handle], number & 0xFFFF_FFFF, address)

    def uc_reg_write(self, handle: int, number: int, address: int) -> None:
        engine, number = self._things[handle], number & 0xFFFF_FFFF
        engine.reg_write(number, _load(number, address, engine.ctl_get_mode()))

    def uc_reg_read_batch(self, handle: int, numbers: int, values: int, count: int) -> None:
        for at in range(count):
            self.uc_reg_read(handle, _get(numbers + 4 * at, 4), _get(values + 8 * at))

    def uc_reg_write_batch(self, handle: int, numbers: int, values: int, count: int) -> None:
        for at in range(count):
            self.uc_reg_write(handle, _get(numbers + 4 * at, 4), _get(values + 8 * at))

    # Memory --------------------------------------------------------------------------------------

    def uc_mem_map(self, handle: int, address: int, size: int, perms: int) -> None:
        self._things[handle].mem_map(address, size, perms & 0xFFFF_FFFF)

    def uc_mem_map_ptr(self, handle: int, address: int, size: int, perms: int, ptr: int) -> None:
        self._things[handle].mem_map_ptr(address, size, perms & 0xFFFF_FFFF, ptr)

    def uc_mem_unmap(self, handle: int, address: int, size: int) -> None:
        self._things[handle].mem_unmap(address, size)

    def uc_mem_protect(self, handle: int, address: int, size: int, perms: int) -> None:
        self._things[handle].mem_protect(address, size, perms & 0xFFFF_FFFF)

    def uc_mem_read(self, handle: int, address: int, result: int, size: int) -> None:
        data = bytes(self._things[handle].mem_read(address, size))
        ctypes.memmove(result, data, size)

    def uc_mem_write(self, handle: int, address: int, data: int, size: int) -> None:
        self._things[handle].mem_write(address, ctypes.string_at(data, size))

    def uc_mem_regions(self, handle: int, regions: int, count: int) -> None:
        found = list(self._things[handle].mem_regions())
        rows = (_U64 * (3 * len(found)))(*(part for region in found for part in region))
        self._keep.append(rows)
        _put(regions, ctypes.addressof(rows))
        _put(count, len(found), 4)

    def uc_mmio_map(self, handle: int, address: int, size: int, read: int, read_data: int,
                    write: int, write_data: int) -> None:  # fmt: skip
        reader, writer = _MMIO_READ(read), _MMIO_WRITE(write)
        self._things[handle].mmio_map(
            address, size,
            (lambda _uc, at, width, _: reader(handle, at, width, read_data)) if read else None,
            None,
            (lambda _uc, at, width, value, _: writer(handle, at, width, value, write_data))
            if write else None, None)  # fmt: skip

    def uc_vmem_translate(self, handle: int, address: int, prot: int, result: int) -> None:
        found = self._things[handle].cpu.translate(address)
        if found is None:
            raise UcError(uc.UC_ERR_EXCEPTION)
        _put(result, found)

    def uc_vmem_read(self, handle: int, address: int, prot: int, result: int, size: int) -> None:
        found = self._things[handle].cpu.translate(address)
        if found is None:
            raise UcError(uc.UC_ERR_EXCEPTION)
        self.uc_mem_read(handle, found, result, size)

    def uc_vmem_write(self, handle: int, address: int, prot: int, data: int, size: int) -> None:
        found = self._things[handle].cpu.translate(address)
        if found is None:
            raise UcError(uc.UC_ERR_EXCEPTION)
        self.uc_mem_write(handle, found, data, size)

    # Hooks ---------------------------------------------------------------------------------------

    def uc_hook_add(self, handle: int, result: int, kind: int, callback: int, data: int,
                    begin: int, end: int, first: int, second: int) -> None:  # fmt: skip
        kind, first, second = kind & 0xFFFF_FFFF, first & 0xFFFF_FFFF, second & 0xFFFF_FFFF
        made = self._hook(handle, kind, callback, data, first)
        engine, valid = self._things[handle], kind & uc.UC_HOOK_MEM_VALID
        if valid and kind & uc.UC_HOOK_MEM_INVALID:  # Python's interface has one group in a call
            engine.hook_add(valid, made, None, begin, end)
            kind &= ~valid
        _put(result, engine.hook_add(kind, made, None, begin, end, first, second))

    def _hook(self, handle: int, kind: int, callback: int, data: int,
              instruction: int) -> Callable[..., Any]:  # fmt: skip
        """A C function as a hook of the Python interface."""
        if kind == uc.UC_HOOK_EDGE_GENERATED:
            edge = _EDGE(callback)
            return lambda _uc, cur, prev, _: edge(
                handle, *(ctypes.byref(_Block(tb.pc, tb.icount, tb.size)) for tb in (cur, prev)),
                data)  # fmt: skip
        if kind == uc.UC_HOOK_INSN:
            kinds: Any = {x86_const.UC_X86_INS_IN: _IN, x86_const.UC_X86_INS_OUT: _OUT}.get(
                instruction, _CALL)  # fmt: skip
        elif kind == uc.UC_HOOK_TCG_OPCODE:
            kinds = _OPCODE
        elif kind & (uc.UC_HOOK_CODE | uc.UC_HOOK_BLOCK):
            kinds = _CODE
        elif kind & (uc.UC_HOOK_INTR | uc.UC_HOOK_INSN_INVALID):
            kinds = _INTR if kind & uc.UC_HOOK_INTR else _INVALID
        else:
            kinds = _MEMORY
        function = kinds(callback)
        return lambda _uc, *what: function(handle, *what[:-1], data)

    def uc_hook_del(self, handle: int, hook: int) -> None:
        self._things[handle].hook_del(hook)

    # Contexts and controls -----------------------------------------------------------------------

    def uc_context_alloc(self, handle: int, result: int) -> None:
        _put(result, self._new(self._things[handle].context_save()))

    def uc_context_free(self, context: int) -> None:
        del self._things[context]

    def uc_context_size(self, handle: int) -> int:
        return int(self._things[handle].context_save().size)

    def uc_context_save(self, handle: int, context: int) -> None:
        self._things[handle].context_update(self._things[context])

    def uc_context_restore(self, handle: int, context: int) -> None:
        self._things[handle].context_restore(self._things[context])

    def uc_context_reg_read(self, context: int, number: int, address: int) -> None:
        kept: UcContext = self._things[context]
        _store(number, address, kept.mode, kept.reg_read(number & 0xFFFF_FFFF))

    def uc_context_reg_write(self, context: int, number: int, address: int) -> None:
        kept: UcContext = self._things[context]
        kept.reg_write(number & 0xFFFF_FFFF, _load(number & 0xFFFF_FFFF, address, kept.mode))

    def uc_ctl(self, handle: int, control: int, first: int, second: int) -> None:
        engine: Uc = self._things[handle]
        which, reads = control & 0x3FF_FFFF, control >> 30 & 3
        self._control(engine, which, reads == 2, first, second)

    def _control(self, engine: Uc, which: int, reads: bool, first: int, second: int) -> None:
        values = {uc.UC_CTL_UC_MODE: engine.ctl_get_mode, uc.UC_CTL_UC_ARCH: engine.ctl_get_arch,
                  uc.UC_CTL_UC_PAGE_SIZE: engine.ctl_get_page_size,
                  uc.UC_CTL_CPU_MODEL: engine.ctl_get_cpu_model}  # fmt: skip
        longs = {uc.UC_CTL_UC_TIMEOUT: engine.ctl_get_timeout,
                 uc.UC_CTL_UC_EXITS_CNT: engine.ctl_get_exits_cnt}  # fmt: skip
        sets: dict[int, Callable[[int], None]] = {
            uc.UC_CTL_UC_PAGE_SIZE: engine.ctl_set_page_size,
            uc.UC_CTL_UC_USE_EXITS: lambda on: engine.ctl_exits_enabled(bool(on)),
            uc.UC_CTL_CPU_MODEL: engine.ctl_set_cpu_model,
            uc.UC_CTL_TLB_TYPE: engine.ctl_set_tlb_mode,
            uc.UC_CTL_TB_FLUSH: lambda _: engine.ctl_flush_tb(),
            uc.UC_CTL_TLB_FLUSH: lambda _: engine.ctl_flush_tlb(),
        }
        if which == uc.UC_CTL_UC_EXITS and not reads:
            engine.ctl_set_exits([_get(first + 8 * at) for at in range(second)])
        elif which == uc.UC_CTL_TB_REMOVE_CACHE:
            engine.ctl_remove_cache(first, second)
        elif which == uc.UC_CTL_TB_REQUEST_CACHE:
            block = _Block(*engine.ctl_request_cache(first))
            if second:
                ctypes.memmove(second, ctypes.byref(block), ctypes.sizeof(block))
        elif reads and (which in values or which in longs):
            _put(first, (values | longs)[which](), 4 if which in values else 8)
        elif not reads and which in sets:
            sets[which](first & 0xFFFF_FFFF)
        else:
            raise UcError(uc.UC_ERR_ARG)
