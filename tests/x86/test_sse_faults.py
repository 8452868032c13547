"""What SSE and MMX refuse: alignment, CR0 and CR4, unmasked exceptions, bad images; and XSAVE."""

from __future__ import annotations

import functools
import struct

import pytest

from pytcg.cpu import Cpu, Stop

CODE, DATA, END = 0x10000, 0x20000, 0x22000
ONE, HALF, NAN, SNAN = 0x3F80_0000, 0x3F00_0000, 0x7FC0_0000, 0x7F80_0001
TS, EM, OSFXSR, OSXMMEXCPT, OSXSAVE = 1 << 3, 1 << 2, 1 << 9, 1 << 10, 1 << 18
UD, NM, GP, PF, MF, XM = 6, 7, 13, 14, 16, 19


@functools.cache
def processor(mode: str) -> Cpu:
    cpu = Cpu(mode=mode)
    cpu.map(CODE, 0x1000)
    cpu.map(DATA, END - DATA)
    return cpu


def run(code: str, mode: str = "long", /, **regs: int) -> tuple[Cpu, Stop]:
    """Run hex ``code`` to its end, with rBX at the data unless said otherwise."""
    cpu = processor(mode)
    binary = bytes.fromhex(code)
    cpu.write(CODE, binary)
    start = {"mxcsr": 0x1F80, "cr0": 0x31, "cr4": OSFXSR | OSXMMEXCPT, "xcr0": 3, "rbx": DATA}
    for name, value in {**start, **regs}.items():
        cpu.regs[name] = value
    return cpu, cpu.run(CODE, until=CODE + len(binary), max_insns=50)


def vector(code: str, mode: str = "long", /, **regs: int) -> tuple[int | None, int | None]:
    """(vector, error code) of the fault, which must be the first instruction's."""
    _, stop = run(code, mode, **regs)
    assert stop.kind != "exception" or stop.rip == CODE
    return stop.vector, stop.error_code


ALIGNED = ["0f2803", "0f2903", "660f6f03", "660f7f03", "0f2b03", "660fe703", "0f5803", "660ffe03",
           "0fc60300", "660f7003e4", "0f5b03", "660fd203", "0fc20301", "660fef03"]  # fmt: skip


@pytest.mark.parametrize("code", ALIGNED)
@pytest.mark.parametrize("mode", ["long", "protected"])
def test_128_bit_operands_must_be_aligned(code: str, mode: str) -> None:
    assert vector(code, mode) == (None, None)
    assert vector(code, mode, rbx=DATA + 8) == (GP, 0)


UNALIGNED = ["0f1003", "660f1003", "f30f6f03", "f30f5803", "f20f5803", "660f6e03", "0f1203",
             "f30fe603", "0ffe03"]  # fmt: skip


@pytest.mark.parametrize("code", UNALIGNED)
def test_others_need_not_be(code: str) -> None:
    assert vector(code, rbx=DATA + 7) == (None, None)


@pytest.mark.parametrize(("code", "regs", "expected"), [
    ("0f5803", {"cr4": 0}, UD),
    ("0f5803", {"cr0": 0x31 | EM}, UD),
    ("0f5803", {"cr0": 0x31 | TS}, NM),
    ("0ffe03", {"cr0": 0x31 | EM}, UD),
    ("0ffe03", {"cr0": 0x31 | TS}, NM),
    ("0ffe03", {"cr4": 0}, None),
    ("0fae03", {"cr0": 0x31 | TS}, NM),
    ("0fae1b", {"cr4": 0}, UD),
    ("0fae23", {}, UD),
    ("0fae23", {"cr4": OSFXSR | OSXSAVE, "cr0": 0x31 | TS}, NM),
    ("0fc303", {"cr4": 0, "cr0": 0x31 | TS}, None),
])  # fmt: skip
def test_control_registers_decide(code: str, regs: dict[str, int], expected: int | None) -> None:
    assert vector(code, **regs)[0] == expected


@pytest.mark.parametrize(("code", "a", "b", "flag"), [
    ("f30f58c1", SNAN, ONE, 0), ("f30f5ec1", ONE, 0, 2), ("f30f5ec1", ONE, 0x4040_0000, 5),
    ("f30f59c1", 0x7F7F_FFFF, 0x7F7F_FFFF, 3), ("0f2fc1", NAN, ONE, 0), ("f30f2dc1", 0, NAN, 0),
    ("f20fd0c1", SNAN, ONE, 0), ("f20f7cc1", SNAN, ONE, 0), ("660f3a40c1ff", SNAN, ONE, 0),
    ("660f3a0ac100", ONE, 0x3FC0_0000, 5), ("660f3a08c104", ONE, 0x3FC0_0000, 5),
    ("660f3a0ac108", ONE, SNAN, 0), ("0f58c1", 1, 0, 1),
    ("0fc2c101", NAN, ONE, 0), ("f30f5dc1", NAN, ONE, 0),
])  # fmt: skip
def test_unmasked_exceptions_fault_before_the_write(code: str, a: int, b: int, flag: int) -> None:
    unmasked = 0x1F80 & ~(0x80 << flag)
    cpu, stop = run(code, mxcsr=unmasked, xmm0=a, xmm1=b, rax=7)
    assert (stop.vector, stop.error_code) == (XM, None)
    assert cpu.regs["xmm0"] == a and cpu.regs["rax"] == 7
    assert cpu.regs["mxcsr"] & ~unmasked & 1 << flag
    cpu, stop = run(code, mxcsr=unmasked, xmm0=a, xmm1=b, cr4=OSFXSR)
    assert stop.vector == UD
    assert run(code, mxcsr=0x1F80, xmm0=a, xmm1=b)[1].kind == "until"


def test_an_old_flag_does_not_fault() -> None:
    cpu, stop = run("f30f58c1", mxcsr=0x1F00 | 1, xmm0=ONE, xmm1=ONE)
    assert stop.kind == "until" and cpu.regs["xmm0"] == 0x4000_0000
    assert cpu.regs["mxcsr"] == 0x1F01


def test_quiet_comparisons_let_quiet_nans_pass() -> None:
    cpu, stop = run("0f2ec1", mxcsr=0, xmm0=NAN, xmm1=ONE)
    assert stop.kind == "until" and cpu.regs["eflags"] & 0x8D5 == 0x45


def test_mxcsr_goes_in_and_comes_out() -> None:
    cpu = processor("long")
    cpu.write(DATA, struct.pack("<II", 0xFFFF, 0))
    run("0fae13 0fae5b04")  # ldmxcsr [rbx]; stmxcsr [rbx+4]
    assert cpu.read(DATA + 4, 4) == b"\xff\xff\0\0" and cpu.regs["mxcsr"] == 0xFFFF
    cpu.write(DATA, struct.pack("<I", 0x1_0000))
    assert vector("0fae13") == (GP, 0)


def test_the_guests_rounding_mode_is_its_own() -> None:
    cpu, _ = run("f30f5ec1", mxcsr=0x1F80 | 2 << 13, xmm0=ONE, xmm1=0x4040_0000)
    assert cpu.regs["xmm0"] == 0x3EAA_AAAB and cpu.regs["mxcsr"] == 0x5FA0
    cpu, _ = run("f30f5ec1", mxcsr=0x1F80 | 1 << 13, xmm0=ONE, xmm1=0x4040_0000)
    assert cpu.regs["xmm0"] == 0x3EAA_AAAA
    assert 1.0 / 3.0 == 0.333_333_333_333_333_3  # Python's own is untouched


def test_pending_x87_exceptions_stop_mmx() -> None:
    cpu = processor("long")
    image = bytearray(512)
    struct.pack_into("<HHB", image, 0, 0x37E, 0x0001, 0)  # IE, unmasked
    struct.pack_into("<I", image, 24, 0x1F80)
    cpu.write(DATA, bytes(image))
    _, stop = run("0fae0b 0ffec1")
    assert (stop.vector, stop.rip) == (MF, CODE + 3)


# Images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["0fae03", "0fae0b"])
def test_fxsave_images_are_aligned_and_whole(code: str) -> None:
    cpu = processor("long")
    cpu.write(DATA, bytes(END - DATA))
    assert vector(code, rbx=DATA + 8) == (GP, 0)
    _, stop = run(code, rbx=END - 256, xmm3=5)
    assert (stop.vector, stop.address) == (PF, END)
    assert not any(cpu.read(DATA, END - DATA)) and cpu.regs["xmm3"] == 5


def test_fxrstor_refuses_reserved_mxcsr_bits_and_changes_nothing() -> None:
    cpu = processor("long")
    image = bytearray(512)
    struct.pack_into("<I", image, 24, 0x8000_1F80)
    cpu.write(DATA, bytes(image))
    assert vector("0fae0b", xmm0=123) == (GP, 0)
    assert cpu.regs["xmm0"] == 123


def test_outside_64_bit_code_eight_registers_are_saved() -> None:
    cpu = processor("protected")
    cpu.write(DATA, b"\xcc" * 512)
    run("0fae03", "protected", xmm7=7, xmm8=8)
    assert cpu.read(DATA + 160 + 16 * 7, 32) == (7).to_bytes(16, "little") + b"\xcc" * 16


def test_xsave_keeps_to_its_mask_and_xrstor_initialises() -> None:
    cpu = processor("long")
    cpu.write(DATA, bytes(1024))
    system = {"cr4": OSFXSR | OSXSAVE, "rdx": 0}
    cpu, stop = run("0fae23", rax=2, xmm1=99, **system)
    assert stop.kind == "until"
    assert struct.unpack("<Q", cpu.read(DATA + 512, 8)) == (2,)
    assert cpu.read(DATA + 176, 1) == b"\x63" and not any(cpu.read(DATA, 24))
    cpu, stop = run("0fae2b", rax=3, xmm1=5, fcw=0x40, **system)
    assert stop.kind == "until" and cpu.regs["xmm1"] == 99 and cpu.regs["fcw"] == 0x37F
    cpu.write(DATA + 512, bytes(8))
    cpu, _ = run("0fae2b", rax=2, xmm1=5, fcw=0x40, **system)
    assert cpu.regs["xmm1"] == 0 and cpu.regs["fcw"] == 0x40
    for offset in (512, 520, 575):
        cpu.write(DATA + 512, bytes(64))
        cpu.write(DATA + offset, b"\x80")
        assert vector("0fae2b", rax=2, **system) == (GP, 0)
    assert vector("0fae23", rbx=DATA + 16, **system) == (GP, 0)


def test_maskmov_stores_only_what_is_chosen() -> None:
    cpu = processor("long")
    cpu.write(DATA, bytes(16))
    run("660ff7c1", rdi=DATA, xmm0=int("11" * 16, 16), xmm1=0x80 << 120 | 0x80 << 8 | 0x7F)
    assert cpu.read(DATA, 16) == b"\0\x11" + bytes(13) + b"\x11"
    for mask in (0, 0x80, 0x80 << 64):  # the host faults whatever is chosen, and stores nothing
        _, stop = run("660ff7c1", rdi=END - 8, xmm0=int("11" * 16, 16), xmm1=mask)
        assert (stop.vector, stop.address) == (PF, END)
        assert cpu.read(END - 8, 8) == bytes(8)
