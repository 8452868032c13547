"""System management mode (SDM vol. 3C, chapter 32) on a board whose SMRAM is plain memory."""

from __future__ import annotations

import pytest

from pytcg import Cpu
from x86.protection import CODE, CODE3, DATA, RAM, STACK0, Machine

UD = 6
HANDLER, AREA = 0x3_8000, 0x3_8000
OTHER_BASE = 0x4_0000


def with_smi(machine: Machine, handler: str = "rsm") -> Machine:
    """The machine with an SMI waiting, and a handler of 16 bits."""
    machine.code(handler, HANDLER, 16)
    machine.cpu._cpu.state.set("smi_pending", 1)
    return machine


@pytest.fixture(params=["threaded", "jit", "python"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["real", "protected", "long"])
def machine(request: pytest.FixtureRequest, engine: str) -> Machine:
    made = Machine(request.param, engine)
    if request.param == "long":
        made.map_long()
    if request.param == "protected":
        made.map_legacy()
    made.regs["rsp"] = STACK0
    return made


def test_32_8_rsm_restores_everything(machine: Machine) -> None:
    with_smi(machine, "mov eax, 0x12345678; mov ebx, eax; xor esp, esp; xor edi, edi; rsm")
    machine.regs["rax"], machine.regs["rdi"], machine.regs["eflags"] = 0x55, 0x66, 0x246
    names = ("rax", "rbx", "rdi", "rsp", "eflags", "cr0", "cr3", "cr4", "efer", "cs", "cs.attr",
             "ss.limit", "gdtr.base", "idtr.limit", "tr.base", "dr7")  # fmt: skip
    before = {name: machine.regs[name] for name in names}
    stop = machine.run("nop; hlt")
    assert (stop.kind, stop.rip) == ("hlt", CODE + 2)
    assert {name: machine.regs[name] for name in names} == before


def test_32_3_state_on_entry(machine: Machine) -> None:
    with_smi(machine, "hlt")
    machine.run("nop")
    regs = machine.regs
    assert (regs["rip"], regs["cs"], regs["cs.base"], regs["cs.limit"]) == (
        0x8001, 0x3000, 0x3_0000, 0xFFFF_FFFF)  # fmt: skip
    assert (regs["ds"], regs["ds.base"], regs["ds.limit"]) == (0, 0, 0xFFFF_FFFF)
    assert (regs["cr0"] & 0x8000_0001, regs["cr4"], regs["efer"], regs["eflags"]) == (0, 0, 0, 2)
    assert (regs["dr7"], regs["cpl"]) == (0x400, 0)


def test_32_4_the_handler_sees_and_changes_what_was_saved(engine: str) -> None:
    machine = Machine("long", engine)
    machine.map_long()
    with_smi(machine, "mov ax, 0x3000; mov ds, ax; mov dword ptr [0xfff8], 0x77; mov ebx, [0xfefc];"
                      " mov [0xffe0], ebx; rsm")  # fmt: skip
    machine.run("hlt")
    assert (machine.regs["rax"], machine.regs["rbx"]) == (0x77, 0x2_0064)


def test_32_11_smbase_can_be_moved(engine: str) -> None:
    machine = Machine("protected", engine)
    with_smi(machine, f"mov ax, 0x3000; mov ds, ax; mov dword ptr [0xff00], {OTHER_BASE}; rsm")
    machine.run("hlt")
    machine.code("mov al, 1; out 0x80, al; hlt", OTHER_BASE + 0x8000, 16)
    machine.cpu._cpu.state.set("smi_pending", 1)
    machine.cpu.run(CODE)
    assert (machine.regs["cs.base"], machine.regs["al"]) == (OTHER_BASE, 1)


def test_32_6_smis_and_nmis_wait_in_the_handler(engine: str) -> None:
    machine = Machine("protected", engine)
    machine.handler(2, code="inc ebx; iretd")
    with_smi(machine, "nop; nop; rsm")
    state = machine.cpu._cpu.state
    machine.run("hlt", insns=1)
    assert state.get("smm") == 1
    state.set("smi_pending", 1)
    state.set("nmi_pending", 1)
    machine.cpu.run(machine.regs["rip"], max_insns=1)
    assert (state.get("smi_pending"), state.get("nmi_pending")) == (1, 1)
    stop = machine.cpu.run(machine.regs["rip"], max_insns=100)
    assert (stop.kind, stop.rip, machine.regs["rbx"]) == ("hlt", CODE + 1, 1)
    assert (state.get("smm"), state.get("smi_pending"), state.get("nmi_pending")) == (0, 0, 0)


def test_32_7_an_nmi_handler_is_still_one_after_rsm(engine: str) -> None:
    machine = Machine("protected", engine)
    machine.cpu._cpu.state.set("nmi_blocked", 1)
    with_smi(machine)
    machine.run("hlt")
    assert machine.cpu._cpu.state.get("nmi_blocked") == 1


def test_32_8_back_to_level_3(engine: str) -> None:
    machine = Machine("protected", engine)
    machine.map_legacy()
    machine.user()
    with_smi(machine)
    assert machine.run("mov eax, [0x9000]; ud2").vector == UD
    assert (machine.regs["cpl"], machine.regs["cs"]) == (3, CODE3)


def test_32_4_1_processors_without_long_mode_have_the_other_layout() -> None:
    machine = Machine("protected")
    machine.cpu = Cpu(mode="protected", model="pentium3")
    machine.cpu.map(0, RAM)
    machine.regs = machine.cpu.regs
    machine._tables()
    with_smi(machine, "mov ax, 0x3000; mov ds, ax; mov eax, [0xfff0]; mov ebx, [0xfefc];"
                      " mov [0xffe4], eax; mov [0xffdc], ebx; rsm")  # fmt: skip
    machine.regs["gdtr.limit"] = 0x7F7
    stop = machine.run("hlt")
    assert (stop.rip, machine.regs["rbp"], machine.regs["rbx"]) == (CODE + 1, CODE, 0x2_0000)
    assert (machine.regs["cs"], machine.regs["gdtr.limit"]) == (8, 0x7F7)


@pytest.mark.parametrize("bit", [0, 1])
def test_32_10_rsm_goes_back_into_hlt_if_asked(bit: int, engine: str) -> None:
    machine = Machine("protected", engine)
    with_smi(machine, f"mov ax, 0x3000; mov ds, ax; mov bl, [0xfec9]; mov byte ptr [0xfec9], {bit};"
                      " mov [0xffe0], bl; rsm")  # fmt: skip
    stop = machine.run("nop; ud2")
    assert (stop.kind, stop.rip) == (("hlt", CODE) if bit else ("exception", CODE + 1))
    assert machine.regs["rbx"] & 0xFF == 0  # it was not in HLT


@pytest.mark.parametrize("change", [
    "mov dword ptr [0xff58], 0x80000000",  # CR0: PG without PE
    "mov dword ptr [0xff58], 0x20000001",  # NW without CD
    "mov dword ptr [0xff48], 0x80000000",  # CR4: a bit that is none
])  # fmt: skip
def test_32_4_1_rsm_of_a_wrong_state_shuts_down(change: str) -> None:
    machine = Machine("protected")
    with_smi(machine, f"mov ax, 0x3000; mov ds, ax; {change}; rsm")
    assert machine.run("nop; hlt").kind == "shutdown"


def test_rsm_elsewhere_is_ud(machine: Machine) -> None:
    assert machine.run("rsm").vector == UD


def test_big_addresses_work_in_the_handler(engine: str) -> None:
    machine = Machine("protected", engine)
    machine.put(DATA + 0x10_0000, 0x5A, 1)
    with_smi(machine, "mov esi, 0x109000; mov al, [esi]; mov [0x9100], al; rsm")
    machine.run("hlt")
    assert machine.get(DATA + 0x100, 1) == 0x5A
