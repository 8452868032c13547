"""Read-modify-write: one access with write intent, as hardware makes it."""

from __future__ import annotations

import ctypes
import mmap
import signal
import struct

import pytest

from pytcg.cpu import Cpu
from pytcg.fuzz.hostcpu import available

CODE, HOLE = 0x1000_0000, 0x6000_0000  # the host CPU of the other tests lies between
"""HOLE: nothing is mapped there, nor on the page before it."""
WRITE = 2
"""Bit 1 of #PF's error code."""

MODIFY = {
    "add": "480103", "adc": "661113", "sub": "2913", "and": "2013",
    "xor imm": "813300000000", "inc": "ff03", "dec": "48ff0b", "not": "f713", "neg": "f61b",
    "shl by 0": "c12300", "shl by cl = 0": "d323", "rol by 0": "c10300", "rcl by 0": "48c11300",
    "sar": "d13b", "bts": "0fab13", "btr imm": "0fba3305", "btc": "480fbb13", "xadd": "0fc113",
    "xchg": "8713", "cmpxchg": "0fb113", "lock cmpxchg8b": "f00fc70b", "cmpxchg16b": "480fc70b",
    "shld by 0": "0fa41300", "shrd by cl = 0": "0fad13", "lock inc": "f0ff03",
}  # fmt: skip
READ = {"cmp": "3913", "test": "8513", "bt": "0fa313", "add from": "0313", "mul": "f723"}


def outcome(code: str, *, address: int = HOLE) -> tuple[int, int]:
    """Error code and address of the fault of an instruction on [rbx], rbx = ``address``."""
    cpu = Cpu(mode="long")
    cpu.map(CODE, 0x1000)
    cpu.write(CODE, bytes.fromhex(code))
    cpu.regs["rbx"], cpu.regs["rdx"] = address, 0
    stop = cpu.run(CODE, max_insns=1)
    assert stop.vector == 14 and stop.error_code is not None and stop.address is not None
    return stop.error_code, stop.address


@pytest.mark.parametrize("name", MODIFY)
def test_a_modified_page_that_is_not_there_faults_as_a_write(name: str) -> None:
    assert outcome(MODIFY[name]) == (WRITE, HOLE)


@pytest.mark.parametrize("name", READ)
def test_a_page_that_is_read_faults_as_a_read(name: str) -> None:
    assert outcome(READ[name]) == (0, HOLE)


# The host --------------------------------------------------------------------------------------

_REG_ERR, _REG_CR2, _REG_RIP = 19, 22, 16  # sys/ucontext.h
_GREGS = 40  # offset of uc_mcontext.gregs
"""What a signal handler finds in its ucontext."""


class _HostFaults:
    """Runs code on [rbx] on the host; its fault is caught and stepped over.

    The handler is machine code too: it saves the error code and address from the ucontext, and
    goes on behind the code under test.
    """

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, 0x1000, prot=7)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        load = b"\x48\x8b\x82"  # mov rax, [rdx + disp32]
        handler = b""
        for slot, register in ((0x800, _REG_ERR), (0x808, _REG_CR2)):
            handler += load + struct.pack("<i", _GREGS + 8 * register)
            handler += b"\x48\xa3" + struct.pack("<Q", self.base + slot)
        handler += b"\x48\xb8" + struct.pack("<Q", self.base + 0x200)  # mov rax, the end
        handler += b"\x48\x89\x82" + struct.pack("<i", _GREGS + 8 * _REG_RIP) + b"\xc3"
        self.page[0x400 : 0x400 + len(handler)] = handler
        self.page[0x200:0x202] = b"\x5b\xc3"  # pop rbx; ret

    def outcome(self, code: str) -> tuple[int, int]:
        start = bytes.fromhex("53 31c9 31d2 bb") + struct.pack("<I", HOLE)
        # push rbx; xor ecx, ecx; xor edx, edx; mov ebx, HOLE
        body = start + bytes.fromhex(code)
        self.page[0 : len(body) + 1] = body + b"\xf4"
        libc = ctypes.CDLL(None)
        # struct sigaction: handler, 128 bytes of mask, flags (SA_SIGINFO), restorer.
        new = struct.pack("<Q128sixxxxQ", self.base + 0x400, bytes(128), 4, 0)
        old = ctypes.create_string_buffer(len(new))
        assert libc.sigaction(signal.SIGSEGV, new, old) == 0
        ctypes.CFUNCTYPE(None)(self.base)()
        assert libc.sigaction(signal.SIGSEGV, old, None) == 0
        error, address = struct.unpack_from("<QQ", self.page, 0x800)
        return error, address


@pytest.mark.skipif(not available(), reason="the host is the oracle")
def test_the_host_faults_alike() -> None:
    host = _HostFaults()
    for name, code in {**MODIFY, **READ}.items():
        error, address = host.outcome(code)
        assert (error & WRITE, address) == outcome(code), name


# What a probe does not find --------------------------------------------------------------------


def test_an_operand_on_two_pages_changes_nothing_unless_both_can_be_written() -> None:
    cpu = Cpu(mode="long")
    cpu.map(CODE, 0x1000)
    cpu.map(HOLE - 0x1000, 0x1000)
    cpu.write(CODE, bytes.fromhex("480103"))
    cpu.write(HOLE - 4, b"\1\2\3\4")
    cpu.regs["rbx"], cpu.regs["rax"] = HOLE - 4, 5
    stop = cpu.run(CODE, max_insns=1)
    assert (stop.vector, stop.error_code, stop.address) == (14, WRITE, HOLE)
    assert cpu.read(HOLE - 4, 4) == b"\1\2\3\4"
    cpu.map(HOLE, 0x1000)
    cpu.run(CODE, max_insns=1)
    assert cpu.read(HOLE - 4, 8) == (0x04030201 + 5).to_bytes(8, "little")


def test_code_that_modifies_its_own_page_sees_it() -> None:
    """add byte [rip + 1], 1; mov al, 5: the immediate was 4 when the page was translated."""
    cpu = Cpu(mode="long")
    cpu.map(CODE, 0x1000)
    cpu.write(CODE, bytes.fromhex("800501000000 01 b004 f4"))
    cpu.run(CODE, max_insns=2)
    assert cpu.regs["rax"] == 5
