"""The x87's exceptions, control instructions and memory images, without a host to compare with."""

from __future__ import annotations

import struct

import pytest

from pytcg.cpu import Cpu, Stop
from pytcg_x86.core.state import Cr0, Vector

CODE, DATA, UNMAPPED = 0x1000, 0x2000, 0x3000
ONE = 0x3FFF << 64 | 1 << 63
FLDZ, FLD1, FDIVP, FWAIT = (bytes.fromhex(code) for code in ("d9ee", "d9e8", "def9", "9b"))
UNMASK_ZE = bytes.fromhex("d92e")  # fldcw [rsi]
FNSTSW_AX = bytes.fromhex("dfe0")


def processor(mode: str = "long") -> Cpu:
    cpu = Cpu(mode=mode)
    cpu.map(0, UNMAPPED)
    cpu.regs["esi"] = DATA
    cpu.regs["cr0"] |= Cr0.NE
    return cpu


def run(cpu: Cpu, code: bytes, insns: int) -> Stop:
    cpu.write(CODE, code)
    return cpu.run(CODE, max_insns=insns)


def divide_by_zero(cpu: Cpu, then: bytes, insns: int) -> Stop:
    """1 / 0 with zero-divide unmasked, then ``then``."""
    cpu.write(DATA, (0x37B).to_bytes(2, "little"))
    return run(cpu, UNMASK_ZE + FLD1 + FLDZ + FDIVP + then, 4 + insns)


@pytest.mark.parametrize("waiting", [FWAIT, FLD1, bytes.fromhex("d9d0"), UNMASK_ZE])
def test_a_pending_exception_is_raised_by_the_next_waiting_instruction(waiting: bytes) -> None:
    stop = divide_by_zero(processor(), waiting, 1)
    assert (stop.kind, stop.vector, stop.rip) == ("exception", Vector.MF, CODE + 8)


def test_instructions_that_do_not_wait_see_the_pending_exception() -> None:
    cpu = processor()
    stop = divide_by_zero(cpu, FNSTSW_AX + bytes.fromhex("dbe2") + FWAIT, 3)  # fnclex
    assert stop.kind == "limit"
    assert cpu.regs["ax"] == 0xB084  # B, TOP = 6, ES, ZE


def test_an_unmasked_zero_divide_leaves_both_operands() -> None:
    cpu = processor()
    divide_by_zero(cpu, bytes.fromhex("dd36"), 1)  # fnsave [rsi]
    image = cpu.read(DATA, 108)
    assert int.from_bytes(image[28:38], "little") == 0
    assert int.from_bytes(image[38:48], "little") == ONE


def test_without_cr0_ne_the_code_goes_on() -> None:
    cpu = processor()
    cpu.regs["cr0"] &= ~Cr0.NE
    assert divide_by_zero(cpu, FWAIT, 1).kind == "limit"


@pytest.mark.parametrize("bit, code, vector", [
    (Cr0.TS, FLD1, Vector.NM), (Cr0.EM, FLD1, Vector.NM), (Cr0.TS | Cr0.MP, FWAIT, Vector.NM),
    (Cr0.TS, FWAIT, None), (Cr0.MP, FWAIT, None), (Cr0.EM, FWAIT, None),
])  # fmt: skip
def test_device_not_available(bit: int, code: bytes, vector: int | None) -> None:
    cpu = processor()
    cpu.regs["cr0"] = (cpu.regs["cr0"] & ~(Cr0.MP | Cr0.TS | Cr0.EM)) | bit
    assert run(cpu, code, 1).vector == vector


@pytest.mark.parametrize("code", ["dd1e", "d91e", "db1e", "db3e", "df36", "d936", "dd36", "dd16"])
def test_a_store_that_faults_changes_nothing(code: str) -> None:
    """FSTP m64, m32, FISTP, FSTP m80, FBSTP, FNSTENV, FNSAVE, FST m64 across into a hole."""
    cpu = processor()
    run(cpu, FLD1, 1)
    cpu.write(UNMAPPED - 1, b"\xa5")
    cpu.regs["esi"] = UNMAPPED - 1
    before = {name: cpu.regs[name] for name in ("st0", "fcw", "fsw")}
    stop = run(cpu, bytes.fromhex(code), 1)
    assert (stop.kind, stop.vector) == ("exception", Vector.PF)
    assert {name: cpu.regs[name] for name in before} == before
    assert cpu.read(UNMAPPED - 1, 1) == b"\xa5"


# Images ----------------------------------------------------------------------------------------


def environment(cpu: Cpu, fnstenv: bytes, words: str) -> tuple[int, ...]:
    load = bytes.fromhex("dd06") if cpu.mode != "real" else bytes.fromhex("dd04")  # fld m64 [si]
    cpu.write(DATA, struct.pack("<d", 2.5))
    stop = run(cpu, load + fnstenv, 2)
    assert stop.kind == "limit"
    return struct.unpack(words, cpu.read(DATA, struct.calcsize(words)))


def test_the_protected_mode_environment_holds_selectors_and_offsets() -> None:
    words = environment(processor("protected"), bytes.fromhex("d936"), "<7I")
    assert words == (0xFFFF_037F, 0xFFFF_3800, 0xFFFF_3FFF, CODE, 8, DATA, 16)


def test_the_16_bit_environment_is_seven_words() -> None:
    words = environment(processor("protected"), bytes.fromhex("66d936"), "<7H")
    assert words == (0x37F, 0x3800, 0x3FFF, CODE, 8, DATA, 16)


def test_the_real_mode_environment_holds_linear_addresses() -> None:
    cpu = processor("real")
    cpu.regs["si"] = DATA
    words = environment(cpu, bytes.fromhex("d934"), "<7H")
    assert words == (0x37F, 0x3800, 0x3FFF, CODE, 0, DATA, 0)


@pytest.mark.parametrize("mode, prefix, size", [
    ("long", "", 108), ("protected", "", 108), ("protected", "66", 94),
])  # fmt: skip
def test_frstor_brings_back_what_fnsave_stored(mode: str, prefix: str, size: int) -> None:
    cpu = processor(mode)
    run(cpu, bytes.fromhex(f"d9ebd9e8{prefix}dd36"), 3)  # fldpi; fld1; fnsave [rsi]
    saved = cpu.read(DATA, size)
    assert cpu.regs["fcw"] == 0x37F
    run(cpu, bytes.fromhex(f"{prefix}dd26{prefix}dd36"), 2)
    assert cpu.read(DATA, size) == saved


def test_fnstenv_masks_what_was_unmasked() -> None:
    cpu = processor()
    divide_by_zero(cpu, bytes.fromhex("d936") + FWAIT + bytes.fromhex("d97e20"), 3)
    assert cpu.read(DATA + 32, 2) == (0x37F).to_bytes(2, "little")


def test_fldcw_that_unmasks_a_flagged_exception_makes_it_pending() -> None:
    cpu = processor()
    cpu.write(DATA, (0x37B).to_bytes(2, "little"))
    stop = run(cpu, FLD1 + FLDZ + FDIVP + UNMASK_ZE + FWAIT, 5)
    assert (stop.vector, stop.rip) == (Vector.MF, CODE + 8)


# The last opcode -------------------------------------------------------------------------------


def last_opcode(cpu: Cpu) -> int:
    cpu.write(CODE + 0x100, bytes.fromhex("d936"))  # fnstenv [esi]
    cpu.run(CODE + 0x100, max_insns=1)
    return int.from_bytes(cpu.read(DATA + 18, 2), "little") & 0x7FF


def test_fop_is_that_of_the_last_unmasked_exception() -> None:
    cpu = processor()
    run(cpu, FLD1 + FLD1, 2)
    assert last_opcode(cpu) == 0
    divide_by_zero(cpu, FLDZ, 0)
    assert last_opcode(cpu) == 0x6F9  # FDIVP: DE F9


@pytest.mark.parametrize("model", ["486", "pentium3"])
def test_old_processors_keep_every_opcode(model: str) -> None:
    cpu = Cpu(mode="protected", model=model)
    cpu.map(0, UNMAPPED)
    cpu.regs["esi"] = DATA
    run(cpu, FLD1 + bytes.fromhex("d846 08"), 2)  # fadd dword ptr [esi+8]
    assert last_opcode(cpu) == 0x046


def test_fop_comes_back_by_frstor_and_fxrstor() -> None:
    cpu = processor()
    image = bytearray(108)
    image[0:12] = struct.pack("<3I", 0x37F, 0, 0xFFFF)
    image[18:20] = (0x123).to_bytes(2, "little")
    cpu.write(DATA, bytes(image))
    run(cpu, bytes.fromhex("dd26"), 1)  # frstor [esi]
    assert last_opcode(cpu) == 0x123
    cpu.write(DATA + 0x200, bytes(6) + (0x321).to_bytes(2, "little") + bytes(504))
    run(cpu, bytes.fromhex("0fae8e00020000"), 1)  # fxrstor [esi+200h]
    assert last_opcode(cpu) == 0x321
