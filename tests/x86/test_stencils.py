"""Stitched blocks: how they leave, how they are led to each other, and what becomes of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from capstone import CS_ARCH_X86, CS_MODE_64, Cs

from pytcg import Cpu
from pytcg.exec import layout, stitch
from pytcg_llvm import stencil
from pytcg_llvm.stencil import Patch
from pytcg_threaded.engine import ThreadedEngine
from pytcg_threaded.jobs import program
from pytcg_threaded.stencils import compile_pack
from pytcg_x86.core.form import row_of
from pytcg_x86.decode.formkey import KEY_SECOND

CODE, DATA = 0x1000, 0x8000


@pytest.fixture
def cpu() -> Cpu:
    made = Cpu(engine="threaded")
    made.map(0x1000, 0x10000)
    return made


def stitched(cpu: Cpu) -> int:
    """Bytes of stitched code."""
    state = cpu._cpu.state
    return state.get("code_used") - len(stitch.TRAMPOLINES) * stitch.TRAMPOLINE


def test_most_forms_have_stencils() -> None:
    Cpu(engine="threaded")
    engine = ThreadedEngine.shared()
    without = {key for key in engine.forms if key not in engine.stencils}
    assert len(without) < len(engine.forms) // 4
    common = {"MOV", "ADD", "CMP", "TEST", "JZ", "CALL", "RET", "PUSH", "POP", "LEA", "MOVZX"}
    flat = 0x1000000 | 3 << 18  # in 64-bit code
    assert not {row_of(key).mnemonic for key in without
                if key & 0x30C_0000 == flat & 0x30C_0000 and not key >> KEY_SECOND} & common


def test_a_loop_runs_in_stitched_code(cpu: Cpu) -> None:
    cpu.write(CODE, cpu.asm("1: add rax, rcx; mov [rbx], rax; dec rcx; jnz 1b; hlt"))
    cpu.regs["rax"], cpu.regs["rcx"], cpu.regs["rbx"] = 0, 1000, DATA
    cpu.run(CODE)
    assert stitched(cpu) > 0
    assert int.from_bytes(cpu.read(DATA, 8), "little") == cpu.regs["rax"] == 500500


def test_a_store_into_the_block_itself_takes_effect_at_once(cpu: Cpu) -> None:
    # The stored byte makes `inc rax` a `dec rax`.
    body = cpu.asm("1: mov [rdi], dl; inc rax; dec rcx; jnz 1b; hlt")
    cpu.write(CODE, body)
    place = CODE + body.index(bytes.fromhex("48ffc0")) + 2
    for stored, expected in ((0xC0, 5), (0xC8, -5 % (1 << 64))):
        cpu.regs["rdi"], cpu.regs["rdx"] = place, stored
        cpu.regs["rax"], cpu.regs["rcx"] = 0, 5
        cpu.run(CODE)
        assert cpu.regs["rax"] == expected


def test_code_that_was_led_to_is_left_when_it_changes(cpu: Cpu) -> None:
    target = CODE + 0x200
    cpu.write(CODE, cpu.asm("1: call target; dec rcx; jnz 1b; hlt", address=CODE,
                            symbols={"target": target}))  # fmt: skip
    for number in (1, 2, 3):
        cpu.write(target, cpu.asm(f"add rax, {number}; ret"))
        cpu.regs["rax"], cpu.regs["rcx"], cpu.regs["rsp"] = 0, 100, DATA
        cpu.run(CODE)
        assert cpu.regs["rax"] == 100 * number


def test_a_fault_is_before_its_instruction(cpu: Cpu) -> None:
    cpu.write(CODE, cpu.asm("1: add rax, 1; mov rdx, [rbx]; add rbx, 0x1000; jmp 1b"))
    cpu.regs["rax"], cpu.regs["rbx"] = 0, DATA
    stop = cpu.run(CODE)
    assert stop.kind != "hlt"
    assert cpu.regs["rbx"] == 0x11000 and cpu.regs["rax"] == (0x11000 - DATA) // 0x1000 + 1
    assert cpu.regs["rip"] == CODE + 4


def test_the_budget_is_exact(cpu: Cpu) -> None:
    cpu.write(CODE, cpu.asm("1: inc rax; inc rax; inc rax; jmp 1b"))
    cpu.regs["rax"] = 0
    cpu.run(CODE, max_insns=4000)
    assert cpu.regs["rax"] == 3000
    for count in range(1, 12):
        cpu.regs["rax"] = 0
        cpu.run(CODE, max_insns=count)
        assert cpu.regs["rax"] == count - count // 4


def test_numbers_that_do_not_fit_a_hole_stay_in_the_record(cpu: Cpu) -> None:
    for value in (0x7FFF_FFFF, -0x8000_0000, 0x7FFF_EFFF, -0x7FFF_F000):
        cpu.write(CODE, cpu.asm(f"mov rax, {value}; add rax, {value}; hlt"))
        cpu.run(CODE)
        assert cpu.regs["rax"] == 2 * value % (1 << 64)


def test_what_lies_behind_a_block_is_no_part_of_it(cpu: Cpu) -> None:
    """After a flush records of older blocks do, which end in a `tb_goto`."""
    cpu.write(CODE, cpu.asm("hlt"))  # a record and nothing behind it
    arena = cpu._cpu.buffers["arena"].view
    behind = layout.TB.size + layout.RECORD_SIZE
    arena[behind : behind + 16] = struct.pack("<2Q", cpu._cpu.engine.symbol("tb_goto"), 1 << 63)
    assert cpu.run(CODE).kind == "hlt"


def filled(code: bytes, patches: Sequence[Patch]) -> bytes:
    """A stencil with values in its holes; what it jumps to lies far away."""
    values = {"near_a": -8, "near_b": -0x60, "base": -0x40, "index": -0x18, "length": 5}
    made = bytearray(code)
    for patch in patches:
        width = patch.width or 4
        value = values.get(patch.hole, 0x1234) if patch.width else 0x4000 - patch.place
        value = (value + patch.addend) & ((1 << 8 * width) - 1)
        made[patch.place : patch.place + width] = value.to_bytes(width, "little")
    return bytes(made)


def listing(code: bytes, patches: Sequence[Patch]) -> list[tuple[str, str | int]]:
    """Instructions, those that a jump within the stencil goes to by number."""
    insns = list(Cs(CS_ARCH_X86, CS_MODE_64).disasm(filled(code, patches), 0))
    numbers = {insn.address: number for number, insn in enumerate(insns)} | {len(code): len(insns)}
    found: list[tuple[str, str | int]] = []
    for insn in insns:
        target = int(insn.op_str, 16) if insn.mnemonic[0] == "j" and insn.op_str[:2] == "0x" else -1
        found.append((insn.mnemonic, numbers.get(target, "out") if target >= 0 else insn.op_str))
    return found


def test_short_displacements_mean_what_the_long_ones_did(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten, seen = stencil._shortened, []

    def spy(code: bytes, patches: list[Patch]) -> tuple[bytes, tuple[Patch, ...]]:
        before, after = (code, tuple(patches)), shorten(code, patches)
        seen.append((before, after))
        return after

    monkeypatch.setattr(stencil, "_shortened", spy)
    Cpu(engine="threaded")
    compile_pack(program(), sorted(ThreadedEngine.shared().forms)[::40])
    assert len(seen) > 20
    for before, after in seen:
        assert listing(*before) == listing(*after)
    assert sum(len(after[0]) for _, after in seen) < sum(len(before[0]) for before, _ in seen)
