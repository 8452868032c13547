"""The host CPU as an oracle: run a few bytes of 64-bit user-mode code with a given state.

A block of memory at a fixed low address holds, in this order, a trampoline with a slot for the
code under test, the state it is loaded from and saved to, and scratch data. The addresses are
fixed so that an emulated CPU can have its code and data at the very same place. The trampoline
reaches everything relative to rIP: no register is its own while the code under test runs.

The code must be harmless: what faults here ends the process, unless `HostCpu.catch` was called.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import signal
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg_x86.decode.table import Row

PAGE = 0x1000
BASE = 0x2000_0000
CODE = BASE + 0x400         # the code under test, at most CODE_SIZE bytes
CODE_SIZE = 0x400
STATE = BASE + PAGE
DATA = BASE + 2 * PAGE
DATA_SIZE = 8 * PAGE
STACK = DATA + DATA_SIZE - 0x400  # a good rSP

_EXIT = CODE + CODE_SIZE
_HANDLER = BASE + 0x200
_FLAGS, _HOST_RSP, _FX, _HOST_FX = STATE + 128, STATE + 136, STATE + 256, STATE + 768
_FAULT, _ZEROES, _HIGH = STATE + 144, STATE + 1536, STATE + 2048
_MAP_FIXED_NOREPLACE = 0x100000
_NO_FAULT = (1 << 64) - 1
_INITIAL_FX = struct.pack("<HHB", 0x37F, 0, 0).ljust(24, b"\0") + struct.pack("<I", 0x1F80)


@dataclass
class HostState:
    """General registers by number, the arithmetic flags and DF, an FXSAVE image, and the upper
    halves of the YMM registers (zeros where the host has none)."""

    regs: list[int] = field(default_factory=lambda: [0] * 16)
    flags: int = 0x202
    fx: bytes = _INITIAL_FX.ljust(512, b"\0")
    high: bytes = bytes(256)


@dataclass(frozen=True, slots=True)
class HostFault:
    """An exception of the code under test: vector, error code, rIP and CR2 as Linux tells them."""

    vector: int
    error: int
    rip: int
    address: int


class _Assembler:
    """The handful of encodings that the trampoline needs."""

    def __init__(self, address: int):
        self.address = address
        self.bytes = bytearray()

    def raw(self, text: str) -> None:
        self.bytes += bytes.fromhex(text)

    def relative(self, opcode: bytes, target: int, immediate: bytes = b"") -> None:
        """An opcode (with ModRM), four bytes that are relative to the next instruction."""
        end = self.address + len(self.bytes) + len(opcode) + 4 + len(immediate)
        self.bytes += opcode + struct.pack("<i", target - end) + immediate

    def upper_halves(self, opcode: int) -> None:
        """VINSERTF128 (18h) or VEXTRACTF128 (19h) of every YMM register's upper half."""
        for register in range(16 if has("avx") else 0):
            first = 0x63 | (~register >> 3 & 1) << 7
            second = 0x05 | (~register & 15) << 3 if opcode == 0x18 else 0x7D
            vex = bytes([0xC4, first, second, opcode, (register & 7) << 3 | 5])
            self.relative(vex, _HIGH + 16 * register, b"\1")

    def load(self, register: int, address: int) -> None:
        self._move(0x8B, register, address)

    def store(self, register: int, address: int) -> None:
        self._move(0x89, register, address)

    def _move(self, opcode: int, register: int, address: int) -> None:
        rex = 0x48 | (register >> 3) << 2
        self.relative(bytes([rex, opcode, (register & 7) << 3 | 5]), address)


_CALLEE_SAVED = "53 55 4154 4155 4156 4157", "415f 415e 415d 415c 5d 5b"
_RSP = 4


def _entry() -> bytes:
    asm = _Assembler(BASE)
    asm.raw(_CALLEE_SAVED[0])
    asm.relative(b"\x48\x0f\xae\x05", _HOST_FX)  # fxsave64
    asm.relative(b"\x48\x0f\xae\x0d", _FX)       # fxrstor64
    asm.upper_halves(0x18)
    asm.store(_RSP, _HOST_RSP)
    asm.relative(b"\xff\x35", _FLAGS)            # push
    asm.raw("9d")                                # popfq
    for register in range(16):
        asm.load(register, STATE + 8 * register)
    asm.relative(b"\xe9", CODE)
    return bytes(asm.bytes)


def _exit() -> bytes:
    asm = _Assembler(_EXIT)
    for register in range(16):
        asm.store(register, STATE + 8 * register)
    asm.load(_RSP, _HOST_RSP)
    asm.raw("9c")                                # pushfq
    asm.relative(b"\x8f\x05", _FLAGS)            # pop
    asm.raw("fc")                                # cld
    asm.relative(b"\x48\x0f\xae\x05", _FX)
    asm.upper_halves(0x19)
    asm.relative(b"\x48\x0f\xae\x0d", _HOST_FX)
    asm.raw(_CALLEE_SAVED[1])
    asm.raw("c3")
    return bytes(asm.bytes)


_GREGS = 40  # ucontext_t.uc_mcontext, an array of words by the numbers REG_RIP, … of sys/ucontext.h
_REG_RIP, _REG_ERR, _REG_TRAPNO, _REG_CR2 = (_GREGS + 8 * n for n in (16, 19, 20, 22))
_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)
_SA_SIGINFO, _SA_ONSTACK, _SA_NODEFER = 4, 0x0800_0000, 0x4000_0000
_SIGNAL_STACK = 64 << 10


def _handler() -> bytes:
    """A signal handler (rDX: ucontext_t): notes the fault and goes on at the exit.

    A fault of other code than that under test gets its default action when it comes again.
    """
    asm = _Assembler(_HANDLER)

    def load(place: int) -> None:
        asm.bytes.extend(b"\x48\x8b\x82" + struct.pack("<i", place))  # mov rax, [rdx+place]

    load(_REG_RIP)
    asm.relative(b"\x48\x8d\x0d", BASE)          # lea rcx, [BASE]
    asm.raw("4829c8 483d00100000 7347")           # sub rax, rcx; cmp rax, PAGE; jae other
    for number, place in enumerate((_REG_TRAPNO, _REG_ERR, _REG_RIP, _REG_CR2)):
        load(place)
        asm.store(0, _FAULT + 8 * number)
    asm.relative(b"\x48\x8d\x05", _EXIT)          # lea rax, [exit]
    asm.bytes.extend(b"\x48\x89\x82" + struct.pack("<i", _REG_RIP))
    asm.raw("c3")
    asm.raw("b80d000000")                         # other: rt_sigaction(signal, default)
    asm.relative(b"\x48\x8d\x35", _ZEROES)
    asm.raw("31d2 41ba08000000 0f05 c3")
    return bytes(asm.bytes)


def available() -> bool:
    """Whether this host can be the oracle."""
    return platform.machine() == "x86_64" and platform.system() == "Linux"


class HostCpu:
    """The scratch memory and the way into it; one a process (`host_cpu`)."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3,
                              ctypes.c_long]  # fmt: skip
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        size = 2 * PAGE + DATA_SIZE
        if libc.mmap(BASE, size, protection, flags, -1, 0) != BASE:
            raise OSError(ctypes.get_errno(), f"no memory at {BASE:#x}")
        # Raw addresses: the mapping above is exactly this long and never goes away.
        self._memory = memoryview((ctypes.c_char * size).from_address(BASE)).cast("B")
        self.data = self._memory[2 * PAGE :]
        self._put(BASE, _entry())
        self._put(_EXIT, _exit())
        self._call = ctypes.CFUNCTYPE(None)(BASE)
        self._libc = libc
        self._stack: ctypes.Array[ctypes.c_char] | None = None

    def catch(self) -> None:
        """From now on faults of code under test are told by `fault`; the process's handlers go."""
        self._put(_HANDLER, _handler())
        self._stack = ctypes.create_string_buffer(_SIGNAL_STACK)
        stack = struct.pack("<QiiQ", ctypes.addressof(self._stack), 0, 0, _SIGNAL_STACK)
        flags = _SA_SIGINFO | _SA_ONSTACK | _SA_NODEFER
        action = struct.pack("<Q128xiiQ", _HANDLER, flags, 0, 0)
        # stack_t and struct sigaction as <signal.h> lays them out on x86-64.
        done = self._libc.sigaltstack(stack, None)
        for number in _SIGNALS:
            done |= self._libc.sigaction(int(number), action, None)
        if done:
            raise OSError(ctypes.get_errno(), "faults can't be caught")

    @property
    def fault(self) -> HostFault | None:
        """What ended the last run, if something did before its end."""
        vector, error, rip, address = struct.unpack("<4Q", self._get(_FAULT, 32))
        return None if vector == _NO_FAULT else HostFault(vector, error, rip, address)

    def _put(self, address: int, content: bytes) -> None:
        self._memory[address - BASE : address - BASE + len(content)] = content

    def _get(self, address: int, size: int) -> bytes:
        return bytes(self._memory[address - BASE : address - BASE + size])

    def run(self, code: bytes, state: HostState) -> HostState:
        """Run ``code`` from `CODE` to its end; returns the state it leaves."""
        back = _Assembler(CODE + len(code))
        back.relative(b"\xe9", _EXIT)
        if len(code) + len(back.bytes) > CODE_SIZE:
            raise ValueError(f"{len(code)} bytes of code")
        self._put(CODE, code + bytes(back.bytes))
        self._put(STATE, struct.pack("<17Q", *state.regs, state.flags))
        self._put(_FX, state.fx)
        self._put(_HIGH, state.high)
        self._put(_FAULT, struct.pack("<Q", _NO_FAULT))
        self._call()
        *regs, flags = struct.unpack("<17Q", self._get(STATE, 17 * 8))
        return HostState(regs, flags, self._get(_FX, 512), self._get(_HIGH, 256))


@functools.cache
def host_cpu() -> HostCpu:
    """The process's host CPU oracle."""
    return HostCpu()


LINUX_NAMES = {"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "lahf-lm": "lahf_lm",
               "sha-ni": "sha_ni", "tsc-adjust": "tsc_adjust",
               "avx-vnni": "avx_vnni", "fxsr-opt": "fxsr_opt"}  # fmt: skip


INTELS = {"DPPS", "DPPD"}
"""Of two NaNs they give the one that Intel's give; others have not been asked."""


@functools.cache
def is_intel() -> bool:
    with open("/proc/cpuinfo") as text:
        return any("GenuineIntel" in line for line in text)


def has_row(row: Row) -> bool:
    """Whether this host has one of the features that a row of the table needs."""
    if row.mnemonic in INTELS and not (available() and is_intel()):
        return False
    return not row.features or any(has(LINUX_NAMES.get(name, name)) for name in row.features)


@functools.cache
def has(*features: str) -> bool:
    """Whether this host can be the oracle of instructions with these features (Linux's names)."""
    if not available():
        return False
    with open("/proc/cpuinfo") as text:
        line = next(line for line in text if line.startswith("flags"))
    return set(features) <= set(line.split())
