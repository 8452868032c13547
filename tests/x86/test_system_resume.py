"""RF, NMIs and the shadows of STI and MOV SS (SDM vol. 3A, 6.7-6.8; vol. 3B, 18.3)."""

from __future__ import annotations

import pytest

from x86.protection import CODE, CODE0, DATA, DATA0, STACK0, Machine

DB, NMI, UD = 1, 2, 6
TF, IF, RF = 1 << 8, 1 << 9, 1 << 16
NEXT = CODE + 0x100


@pytest.fixture(params=["threaded", "jit", "python"])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine("protected", request.param)


def iret_to(flags: int) -> str:
    """An IRET to `NEXT` with these flags."""
    return f"push {flags}; push {CODE0}; push {NEXT}; iretd"


def image(machine: Machine) -> int:
    """The flags of the frame on the stack."""
    return machine.stack(3, 4)[2]


# Resume flag -----------------------------------------------------------------------------------


def test_18_3_1_1_software_interrupts_push_rf_as_0(machine: Machine) -> None:
    machine.handler(0x30)
    machine.code("int 0x30", NEXT)
    assert machine.run(iret_to(RF | 2)).kind == "hlt"
    assert image(machine) == 2


def test_18_3_1_1_faults_push_rf_as_1(machine: Machine) -> None:
    machine.handler(UD)
    machine.code("ud2", NEXT)
    machine.run(iret_to(2))
    assert image(machine) == RF | 2


def test_18_3_1_1_rf_ends_with_the_next_instruction(machine: Machine) -> None:
    machine.handler(DB)
    machine.code("nop; nop", NEXT)
    assert machine.run(iret_to(RF | TF | 2)).kind == "hlt"
    assert machine.stack(3, 4) == [NEXT + 1, CODE0, TF | 2]


def test_18_3_1_1_an_nmi_before_the_next_instruction_sees_rf(machine: Machine) -> None:
    machine.handler(NMI)
    machine.cpu._cpu.state.set("nmi_blocked", 1)
    machine.cpu._cpu.state.set("nmi_pending", 1)
    machine.code("nop", NEXT)
    assert machine.run(iret_to(RF | 2)).kind == "hlt"
    assert machine.stack(3, 4) == [NEXT, CODE0, RF | 2]


def test_18_3_1_1_a_trap_between_iterations_pushes_rf_as_1(machine: Machine) -> None:
    machine.handler(DB)
    machine.code("rep stosb", NEXT)
    machine.regs["rdi"], machine.regs["rcx"] = DATA, 2
    machine.run(iret_to(TF | 2))
    assert machine.stack(3, 4) == [NEXT, CODE0, RF | TF | 2]
    assert machine.regs["rcx"] == 1


def test_18_3_1_1_a_trap_after_the_last_iteration_pushes_rf_as_0(machine: Machine) -> None:
    machine.handler(DB)
    machine.code("rep stosb; nop", NEXT)
    machine.regs["rdi"], machine.regs["rcx"] = DATA, 1
    machine.run(iret_to(TF | 2))
    assert machine.stack(3, 4) == [NEXT + 2, CODE0, TF | 2]


def test_pushf_reads_rf_as_0(machine: Machine) -> None:
    machine.code("pushfd; pop ebx; hlt", NEXT)
    machine.run(iret_to(RF | 2))
    assert machine.regs["rbx"] == 2


# NMI -------------------------------------------------------------------------------------------


def test_6_7_1_nmis_wait_for_the_handlers_iret_and_only_one_does(machine: Machine) -> None:
    state = machine.cpu._cpu.state
    machine.handler(NMI, code="inc ebx; cmp ebx, 1; nop; nop; iretd")
    state.set("nmi_pending", 1)
    machine.run("nop; nop; hlt", insns=3)
    assert (machine.regs["rbx"], state.get("nmi_blocked"), state.get("nmi_pending")) == (1, 1, 0)
    state.set("nmi_pending", 1)
    stop = machine.cpu.run(machine.regs["rip"], max_insns=2)
    assert (stop.kind, machine.regs["rbx"]) == ("limit", 1)
    stop = machine.cpu.run(machine.regs["rip"], max_insns=100)
    assert (stop.kind, machine.regs["rbx"], state.get("nmi_blocked")) == ("hlt", 2, 0)


def test_6_7_1_int_2_blocks_no_nmi(machine: Machine) -> None:
    machine.handler(NMI)
    machine.run("int 2")
    assert machine.cpu._cpu.state.get("nmi_blocked") == 0


def test_6_7_1_an_iret_that_faults_lets_nmis_in_too(machine: Machine) -> None:
    machine.handler(13)
    machine.cpu._cpu.state.set("nmi_blocked", 1)
    machine.run("push 2; push 0; push 0; iretd")
    assert machine.cpu._cpu.state.get("nmi_blocked") == 0


# Shadows ---------------------------------------------------------------------------------------


def test_6_8_3_mov_ss_holds_off_the_trap(machine: Machine) -> None:
    machine.handler(DB)
    machine.code("mov ss, eax; nop; nop", NEXT)
    machine.regs["rax"] = DATA0
    machine.run(iret_to(TF | 2))
    assert machine.stack(1, 4) == [NEXT + 3]


def test_6_8_3_sti_does_not(machine: Machine) -> None:
    machine.handler(DB)
    machine.code("sti; nop; nop", NEXT)
    machine.run(iret_to(TF | 2))
    assert machine.stack(1, 4) == [NEXT + 1]


def test_6_8_3_an_nmi_waits_for_the_instruction_after_mov_ss(machine: Machine) -> None:
    machine.handler(NMI)
    machine.regs["rax"] = DATA0
    machine.code("mov ss, eax; nop; nop", NEXT)
    machine.run("nop; mov ss, eax", insns=2)
    machine.cpu._cpu.state.set("nmi_pending", 1)
    machine.cpu.run(NEXT + 2, max_insns=3)
    assert machine.stack(1, 4) == [NEXT + 3]
    assert machine.regs["rsp"] == STACK0 - 12
