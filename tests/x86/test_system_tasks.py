"""Task switches (SDM vol. 3A, chapter 8): every way in, every way back, and table 8-1's checks."""

from __future__ import annotations

import pytest

from x86.protection import (
    BIG,
    CODE,
    CODE0,
    CODE3,
    DATA0,
    DATA3,
    FLAT_CODE,
    GDT,
    IDT,
    LDT,
    STACK0,
    TSS,
    TSS_SELECTOR,
    Machine,
    descriptor,
    gate,
)

DB, DF, TS, NP, SS, GP, PF = 1, 8, 10, 11, 12, 13, 14
NEW_TSS, NEW_SELECTOR, GATE = 0x3400, 0x48, 0x50
OTHER = 0x58
"""First selector for a test's own descriptors."""
TASK, STACK = CODE + 0x400, 0xE000
NT, RF, VM, TF, IF = 1 << 14, 1 << 16, 1 << 17, 1 << 8, 1 << 9
AVAILABLE, BUSY, AVAILABLE_16, TASK_GATE = 0x89, 0x8B, 0x81, 0x85
SEGMENTS = {"es": 0x48, "cs": 0x4C, "ss": 0x50, "ds": 0x54, "fs": 0x58, "gs": 0x5C, "ldt": 0x60}


class Tasks(Machine):
    """A machine in one task, with another's TSS ready and a task gate that leads to it."""

    def __init__(self, engine: str):
        super().__init__("protected", engine)
        self.define(TSS_SELECTOR, descriptor(TSS, 0x67, BUSY))
        self.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x67, AVAILABLE))
        self.define(GATE, gate(NEW_SELECTOR, 0, TASK_GATE))
        self.put(NEW_TSS + 0x20, TASK, 4)
        self.put(NEW_TSS + 0x24, 2, 4)
        for number in range(8):
            self.put(NEW_TSS + 0x28 + 4 * number, 0x1111_1111 * number, 4)
        self.put(NEW_TSS + 0x38, STACK, 4)
        for name, at in SEGMENTS.items():
            self.put(NEW_TSS + at, {"cs": CODE0, "ldt": 0}.get(name, DATA0), 2)
        self.code("hlt", TASK)
        for vector in (DF, TS, NP, SS, GP, PF):
            self.handler(vector)

    def narrow(self) -> None:
        """Make the other task's TSS a 16-bit one."""
        self.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x2B, AVAILABLE_16))
        self.cpu.write(NEW_TSS, bytes(0x68))
        for at, value in {0x0E: TASK, 0x10: 2, 0x1A: STACK, 0x22: DATA0, 0x24: CODE0, 0x26: DATA0,
                          0x28: DATA0}.items():  # fmt: skip
            self.put(NEW_TSS + at, value, 2)

    def access(self, selector: int) -> int:
        return self.get(GDT + selector + 5, 1)

    def fault(self) -> tuple[int, int, int]:
        """Vector, error code and EIP of the exception whose handler has halted."""
        vector = (self.regs["rip"] - 1 - 0x6000) // 16
        code, pc = self.stack(2, 4)
        return vector, code, pc


@pytest.fixture(params=["threaded", "jit", "python"])
def machine(request: pytest.FixtureRequest) -> Tasks:
    return Tasks(request.param)


JUMP, CALL = f"ljmp {NEW_SELECTOR}, 0", f"lcall {NEW_SELECTOR}, 0"
VIA_GATE = {"jmp": f"ljmp {GATE}, 0", "call": f"lcall {GATE}, 0"}


# Ways in ---------------------------------------------------------------------------------------


def test_8_3_jmp_switches_and_leaves_the_old_task_free(machine: Tasks) -> None:
    machine.regs["rbx"], machine.regs["eflags"] = 0x1234, 0x246
    stop = machine.run(JUMP)
    assert (stop.kind, stop.rip) == ("hlt", TASK + 1)
    assert (machine.access(TSS_SELECTOR), machine.access(NEW_SELECTOR)) == (AVAILABLE, BUSY)
    assert machine.get(TSS + 0x20, 4) == CODE + 7
    assert machine.get(TSS + 0x24, 4) == 0x246
    assert (machine.get(TSS + 0x34, 4), machine.get(TSS + 0x38, 4)) == (0x1234, STACK0)
    assert [machine.get(TSS + SEGMENTS[n], 2) for n in ("cs", "ss")] == [CODE0, DATA0]
    assert (machine.regs["rdi"], machine.regs["rsp"]) == (0x7777_7777, STACK)
    assert (machine.regs["tr"], machine.regs["eflags"]) == (NEW_SELECTOR, 2)
    assert machine.regs["cr0"] & 8
    assert machine.get(NEW_TSS, 2) == 0


def test_8_4_call_nests_and_iret_goes_back(machine: Tasks) -> None:
    machine.code("pushfd; pop ebx; iretd; hlt", TASK)
    stop = machine.run(CALL + "; str cx; hlt")
    assert (stop.kind, stop.rip) == ("hlt", CODE + 7 + 5)
    assert (machine.access(TSS_SELECTOR), machine.access(NEW_SELECTOR)) == (BUSY, AVAILABLE)
    assert (machine.get(NEW_TSS, 2), machine.regs["cx"]) == (TSS_SELECTOR, TSS_SELECTOR)
    assert machine.get(NEW_TSS + 0x34, 4) == NT | 2  # what PUSHFD saw
    assert machine.get(NEW_TSS + 0x24, 4) == 2  # NT is clear in what IRET saves
    assert machine.get(NEW_TSS + 0x20, 4) == TASK + 3
    assert (machine.regs["rsp"], machine.regs["eflags"]) == (STACK0, 2)


@pytest.mark.parametrize("kind", VIA_GATE)
def test_8_2_5_through_a_task_gate(machine: Tasks, kind: str) -> None:
    machine.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x67, AVAILABLE))
    assert machine.run(VIA_GATE[kind]).rip == TASK + 1
    assert machine.access(TSS_SELECTOR) == (AVAILABLE if kind == "jmp" else BUSY)


def test_8_2_5_the_gates_level_counts_not_the_tss_s(machine: Tasks) -> None:
    machine.define(GATE, gate(NEW_SELECTOR, 0, TASK_GATE | 0x60))
    machine.user()
    assert machine.run(f"lcall {GATE | 3}, 0").rip == TASK + 1
    assert machine.regs["cpl"] == 0


def test_6_14_1_interrupt_through_a_task_gate(machine: Tasks) -> None:
    machine.put(IDT + 0x30 * 8, gate(NEW_SELECTOR, 0, TASK_GATE), 8)
    machine.code("iretd", TASK)
    stop = machine.run("int 0x30; hlt")
    assert (stop.kind, stop.rip, machine.regs["rsp"]) == ("hlt", CODE + 3, STACK0)
    assert machine.get(NEW_TSS + 0x20, 4) == TASK + 1


def test_6_13_an_exceptions_error_code_is_on_the_new_stack(machine: Tasks) -> None:
    machine.put(IDT + NP * 8, gate(NEW_SELECTOR, 0, TASK_GATE), 8)
    machine.define(OTHER, descriptor(0, 0xFFFFF, 0x13, BIG))
    machine.run(f"mov eax, {OTHER}; mov ds, eax")
    assert (machine.regs["rsp"], machine.stack(1, 4)) == (STACK - 4, [OTHER])
    assert machine.get(TSS + 0x20, 4) == CODE + 5
    assert machine.get(TSS + 0x24, 4) == RF | 2


def test_6_13_a_16_bit_task_gets_a_16_bit_error_code(machine: Tasks) -> None:
    machine.narrow()
    machine.put(IDT + NP * 8, gate(NEW_SELECTOR, 0, TASK_GATE), 8)
    machine.define(OTHER, descriptor(0, 0xFFFFF, 0x13, BIG))
    machine.run(f"mov eax, {OTHER}; mov ds, eax")
    assert (machine.regs["rsp"], machine.stack(1, 2)) == (STACK - 2, [OTHER])


def test_8_6_a_16_bit_tss(machine: Tasks) -> None:
    machine.narrow()
    machine.code("iretd", TASK)
    machine.put(NEW_TSS + 0x18, 0x5678, 2)
    stop = machine.run(CALL + "; hlt")
    assert (stop.kind, stop.rip) == ("hlt", CODE + 8)
    assert (machine.get(NEW_TSS, 2), machine.get(NEW_TSS + 0x0E, 2)) == (TSS_SELECTOR, TASK + 1)
    assert machine.get(NEW_TSS + 0x18, 2) == 0x5678


def test_8_7_the_ldt_is_the_new_tasks(machine: Tasks) -> None:
    machine.define(OTHER, descriptor(LDT, 0xF, 0x82))
    machine.put(LDT + 8, descriptor(0x9000, 0xFF, 0x92), 8)
    machine.put(0x9000 + 4, 0x77, 1)
    machine.put(NEW_TSS + SEGMENTS["ldt"], OTHER, 2)
    machine.put(NEW_TSS + SEGMENTS["ds"], 0xC, 2)
    machine.code("mov bl, [4]; hlt", TASK)
    machine.run(JUMP)
    assert (machine.regs["bl"], machine.regs["ldtr"]) == (0x77, OTHER)
    assert machine.get(LDT + 8 + 5, 1) == 0x93


def test_8_7_2_cr3_is_the_new_tasks_if_paging_is_on(machine: Tasks) -> None:
    table = machine.map_legacy()
    other = table + 0x4000
    machine.cpu.write(other, machine.cpu.read(table - 0x1000, 0x1000))
    machine.put(NEW_TSS + 0x1C, other, 4)
    machine.run(JUMP)
    assert machine.regs["cr3"] == other


def test_cr3_stays_without_paging(machine: Tasks) -> None:
    machine.put(NEW_TSS + 0x1C, 0x5000, 4)
    machine.run(JUMP)
    assert machine.regs["cr3"] == 0


def test_8_3_to_an_outer_level(machine: Tasks) -> None:
    for name in ("es", "ss", "ds", "fs", "gs"):
        machine.put(NEW_TSS + SEGMENTS[name], DATA3, 2)
    machine.put(NEW_TSS + SEGMENTS["cs"], CODE3, 2)
    machine.put(NEW_TSS + 4, STACK, 4)
    machine.put(NEW_TSS + 8, DATA0, 2)
    machine.run(JUMP)  # HLT at level 3
    assert machine.fault() == (GP, 0, TASK)
    assert machine.stack(6, 4)[2] == CODE3


def test_16_2_local_breakpoints_go(machine: Tasks) -> None:
    machine.regs["dr7"] = 0x7FF
    machine.run(JUMP)
    assert machine.regs["dr7"] == 0x6AA


def test_8_2_1_the_trap_bit_raises_db_before_the_first_instruction(machine: Tasks) -> None:
    machine.handler(DB)
    machine.put(NEW_TSS + 100, 1, 2)
    machine.run(JUMP)
    assert machine.stack(2, 4) == [TASK, CODE0]
    assert machine.regs["dr6"] == 0xFFFF_8FF0


def test_an_nmi_through_a_task_gate(machine: Tasks) -> None:
    machine.put(IDT + 2 * 8, gate(NEW_SELECTOR, 0, TASK_GATE), 8)
    machine.cpu._cpu.state.set("nmi_pending", 1)
    machine.code("inc ebx; iretd", TASK)
    assert machine.run("nop; hlt").kind == "hlt"
    assert machine.get(NEW_TSS + 0x34, 4) == 0x3333_3334


# What is wrong in the old task -----------------------------------------------------------------

BEFORE = {
    "busy": (JUMP, lambda m: m.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x67, BUSY)),
             GP, NEW_SELECTOR),
    "busy, by a gate": (VIA_GATE["jmp"],
                        lambda m: m.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x67, BUSY)),
                        GP, NEW_SELECTOR),
    "not present": (JUMP, lambda m: m.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x67, 9)),
                    NP, NEW_SELECTOR),
    "too small": (CALL, lambda m: m.define(NEW_SELECTOR, descriptor(NEW_TSS, 0x66, AVAILABLE)),
                  TS, NEW_SELECTOR),
    "16 bits, too small": (CALL, lambda m: m.define(
        NEW_SELECTOR, descriptor(NEW_TSS, 0x2A, AVAILABLE_16)), TS, NEW_SELECTOR),
    "gate not present": (VIA_GATE["call"],
                         lambda m: m.define(GATE, gate(NEW_SELECTOR, 0, 5)), NP, GATE),
    "gate to no TSS": (VIA_GATE["call"],
                       lambda m: m.define(GATE, gate(DATA0, 0, TASK_GATE)), GP, DATA0),
    "gate to an LDT's": (VIA_GATE["call"],
                         lambda m: m.define(GATE, gate(NEW_SELECTOR | 4, 0, TASK_GATE)),
                         GP, NEW_SELECTOR | 4),
    "IRET to a free TSS": ("pushfd; or dword ptr [esp], 0x4000; popfd; iretd",
                           lambda m: m.put(TSS, NEW_SELECTOR, 2), TS, NEW_SELECTOR),
    "IRET to data": ("pushfd; or dword ptr [esp], 0x4000; popfd; iretd",
                     lambda m: m.put(TSS, DATA0, 2), TS, DATA0),
    "INT by a gate to data": ("int 0x30", lambda m: m.put(
        IDT + 0x30 * 8, gate(DATA0, 0, TASK_GATE), 8), GP, DATA0),
}


@pytest.mark.parametrize("name", BEFORE)
def test_table_8_1_in_the_old_task(machine: Tasks, name: str) -> None:
    text, prepare, vector, code = BEFORE[name]
    prepare(machine)
    machine.run(text)
    found = machine.fault()
    assert found[:2] == (vector, code)
    assert CODE <= found[2] < CODE + 0x20
    assert (machine.regs["tr"], machine.regs["rdi"]) == (TSS_SELECTOR, 0)


def test_a_tss_s_level_is_checked(machine: Tasks) -> None:
    machine.user()
    machine.run(f"ljmp {NEW_SELECTOR | 3}, 0")
    assert machine.fault()[:2] == (GP, NEW_SELECTOR)


def test_8_3_a_tss_that_is_not_mapped_faults_in_the_old_task(machine: Tasks) -> None:
    table = machine.map_legacy()
    machine.define(NEW_SELECTOR, descriptor(0x1_0000, 0x67, AVAILABLE))
    machine.put(table + 0x10 * 4, 0, 4)
    machine.run(JUMP)
    assert machine.fault() == (PF, 0, CODE)
    assert machine.regs["tr"] == TSS_SELECTOR
    assert machine.access(NEW_SELECTOR) == AVAILABLE


# What is wrong in the new one ------------------------------------------------------------------

READ_ONLY, ABSENT, INNER_CODE, EXECUTE_ONLY, OUTSIDE = 0x58, 0x60, 0x68, 0x70, 0x1000
AFTER = {
    "CS null": ("cs", 0, TS, 0),
    "CS outside": ("cs", OUTSIDE, TS, OUTSIDE),
    "CS of data": ("cs", DATA0, TS, DATA0),
    "CS of another level": ("cs", CODE3 & ~3, TS, CODE3 & ~3),
    "SS null": ("ss", 0, TS, 0),
    "SS of code": ("ss", CODE0, TS, CODE0),
    "SS read-only": ("ss", READ_ONLY, TS, READ_ONLY),
    "SS not present": ("ss", ABSENT, SS, ABSENT),
    "SS of another level": ("ss", DATA3, TS, DATA3 & ~3),
    "DS outside": ("ds", OUTSIDE, TS, OUTSIDE),
    "ES not present": ("es", ABSENT, NP, ABSENT),
    "FS of execute-only code": ("fs", EXECUTE_ONLY, TS, EXECUTE_ONLY),
    "GS a TSS": ("gs", TSS_SELECTOR, TS, TSS_SELECTOR),
    "LDT of data": ("ldt", DATA0, TS, DATA0),
    "LDT in the LDT": ("ldt", 4, TS, 4),
}


@pytest.mark.parametrize("name", AFTER)
def test_table_8_1_in_the_new_task(machine: Tasks, name: str) -> None:
    """The handler is a task of its own, as the manual advises: the new one has no stack yet."""
    segment, selector, vector, code = AFTER[name]
    machine.define(READ_ONLY, descriptor(0, 0xFFFFF, 0x91, BIG))
    machine.define(ABSENT, descriptor(0, 0xFFFFF, 0x13, BIG))
    machine.define(EXECUTE_ONLY, descriptor(0, 0xFFFFF, 0x99, BIG))
    machine.put(NEW_TSS + SEGMENTS[segment], selector, 2)
    third, handler = 0x3500, CODE + 0x600
    machine.cpu.write(third, machine.cpu.read(NEW_TSS, 0x68))
    for name_, at in SEGMENTS.items():
        machine.put(third + at, {"cs": CODE0, "ldt": 0}.get(name_, DATA0), 2)
    machine.put(third + 0x20, handler, 4)
    machine.code("hlt", handler)
    machine.define(0x78, descriptor(third, 0x67, AVAILABLE))
    machine.put(IDT + vector * 8, gate(0x78, 0, TASK_GATE), 8)
    assert machine.run(JUMP).rip == handler + 1
    assert machine.stack(1, 4) == [code]
    assert machine.get(third, 2) == NEW_SELECTOR
    assert (machine.get(NEW_TSS + 0x20, 4), machine.access(TSS_SELECTOR)) == (TASK, AVAILABLE)
    assert machine.get(NEW_TSS + SEGMENTS[segment], 2) in (selector, machine.get(third, 2), 0)


def test_eip_beyond_the_limit_is_gp_in_the_new_task(machine: Tasks) -> None:
    machine.define(OTHER, descriptor(0, 0xFFF, FLAT_CODE, 4))
    machine.put(NEW_TSS + SEGMENTS["cs"], OTHER, 2)
    machine.run(JUMP)
    assert machine.fault() == (GP, 0, TASK)
    assert machine.regs["tr"] == NEW_SELECTOR


def test_a_fault_of_the_new_task_is_not_lost_when_the_budget_ends(machine: Tasks) -> None:
    machine.put(NEW_TSS + SEGMENTS["ds"], OUTSIDE, 2)
    machine.run(JUMP, insns=1)
    stop = machine.cpu.run(machine.regs["rip"], max_insns=1)
    assert stop.kind == "hlt"
    assert machine.fault() == (TS, OUTSIDE, TASK)


def test_6_15_a_task_that_handles_a_fault_and_can_not_run_is_a_double_fault(
        machine: Tasks) -> None:  # fmt: skip
    machine.put(NEW_TSS + SEGMENTS["ds"], OUTSIDE, 2)
    machine.put(IDT + GP * 8, gate(NEW_SELECTOR, 0, TASK_GATE), 8)
    machine.run("mov eax, 0x2000; mov ds, eax")
    assert machine.fault()[:2] == (DF, 0)


def test_no_task_switch_in_ia_32e_mode() -> None:
    machine = Machine("long")
    machine.map_long()
    machine.regs["eflags"] = NT | 2
    stop = machine.run("iretq")
    assert (stop.vector, stop.error_code) == (GP, 0)
