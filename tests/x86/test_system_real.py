"""Real mode: the vector table, far transfers, limits, and the way to protected mode and back."""

from __future__ import annotations

import pytest

from x86.protection import BIG, CODE, DATA, FREE, GDT, Machine, descriptor

GP, SS, UD = 13, 12, 6
STACK = 0xB000


@pytest.fixture(params=["threaded", "jit"])
def machine(request: pytest.FixtureRequest) -> Machine:
    made = Machine("real", request.param)
    made.regs["rsp"] = STACK
    return made


def vector(machine: Machine, number: int, code: str, at: int = 0x6000) -> None:
    """Point a vector at ``code``."""
    machine.put(number * 4, at, 4)
    machine.code(code, at)


def test_int_pushes_three_words_and_iret_pops_them(machine: Machine) -> None:
    vector(machine, 0x21, "mov bp, sp; mov bx, [bp]; mov cx, [bp+4]; iret")
    machine.regs["eflags"] = 0x202
    stop = machine.run("int 0x21; hlt")
    assert (stop.kind, stop.rip) == ("hlt", CODE + 3)
    assert (machine.regs["bx"], machine.regs["cx"]) == (CODE + 2, 0x202)
    assert (machine.regs["eflags"], machine.regs["rsp"]) == (0x202, STACK)


def test_faults_push_no_error_code(machine: Machine) -> None:
    vector(machine, GP, "hlt")
    machine.run("mov bx, 0xffff; mov ax, [bx]")
    assert machine.get(machine.regs["rsp"], 2) == CODE + 3
    assert machine.regs["rsp"] == STACK - 6


@pytest.mark.parametrize(("text", "number"), [
    ("mov bx, 0xffff; mov ax, [bx]", GP), ("mov bx, 0xffff; mov [bx], ax", GP),
    ("mov bp, 0xffff; mov ax, [bp]", SS), ("mov sp, 1; push ax", SS),
    ("xor ebx, ebx; dec ebx; mov al, [ebx]", GP), ("lldt ax", UD), ("verr ax", UD),
    ("arpl ax, ax", UD), ("lar ax, ax", UD), ("str ax", UD),
])  # fmt: skip
def test_fault(machine: Machine, text: str, number: int) -> None:
    assert machine.run(text).vector == number


def test_segments_are_multiplied_by_16_and_reach_beyond_1_mib(machine: Machine) -> None:
    machine.put(0x10_0010, 0x42, 1)
    machine.run("mov ax, 0xffff; mov ds, ax; mov al, [0x20]; hlt")
    assert (machine.regs["al"], machine.regs["ds.base"]) == (0x42, 0xF_FFF0)


def test_a20_gate_wraps_at_1_mib(machine: Machine) -> None:
    machine.put(0x10, 0x24, 1)
    machine.cpu._cpu.state.set("a20_mask", ~(1 << 20))
    machine.run("mov ax, 0xffff; mov ds, ax; mov al, [0x20]; hlt")
    assert machine.regs["al"] == 0x24


def test_far_call_and_return(machine: Machine) -> None:
    machine.code("mov bx, cs; .byte 0xca, 2, 0", 0x1_2340)
    stop = machine.run("push ax; .byte 0x9a; .word 0x340, 0x1200; hlt")
    assert (stop.kind, machine.regs["bx"], machine.regs["rsp"]) == ("hlt", 0x1200, STACK)


def test_the_shadow_of_sti_and_mov_ss(machine: Machine) -> None:
    machine.run("sti; mov ax, 0x100; mov ss, ax; mov sp, 0x200; hlt")
    assert (machine.regs["ss.base"], machine.regs["sp"]) == (0x1000, 0x200)
    assert machine.cpu._cpu.state.get("inhibit") == 0


def test_to_protected_mode_and_back_with_big_segments(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0x9B, BIG))
    machine.define(FREE + 8, descriptor(0, 0xFFFFF, 0x93, BIG))
    machine.define(FREE + 16, descriptor(0, 0xFFFF, 0x9B))
    machine.cpu.write(DATA, (0x7FF).to_bytes(2, "little") + GDT.to_bytes(4, "little"))
    machine.put(0x12_3456, 0x99, 1)
    enter = ("lgdt [0x9000]; mov eax, cr0; or al, 1; mov cr0, eax;"
             f" .byte 0x66, 0xea; .long {CODE + 0x100}; .word {FREE}")  # fmt: skip
    machine.code(f"mov ecx, {FREE + 8}; mov ds, ecx; mov es, ecx; mov bl, [0x123456];"
                 f" ljmp {FREE + 16}, {CODE + 0x200}", CODE + 0x100, 32)  # fmt: skip
    leave = "and al, 0xfe; mov cr0, eax; .byte 0xea; .word 0x8300, 0"
    machine.code(leave, CODE + 0x200)
    machine.code("xor ax, ax; mov ds, ax; mov esi, 0x123456; mov bh, [esi]; hlt", CODE + 0x300)
    stop = machine.run(enter)
    assert (stop.kind, machine.regs["cs"]) == ("hlt", 0)
    # The limit loaded in protected mode stays: "unreal" mode.
    assert (machine.regs["bl"], machine.regs["bh"]) == (0x99, 0x99)


def test_unset_vector_stops_the_run_with_the_state_as_it_was(machine: Machine) -> None:
    stop = machine.run("xor dx, dx; div dx")
    assert (stop.kind, stop.vector, stop.rip) == ("exception", 0, CODE + 2)
    assert machine.regs["rsp"] == STACK
