"""Virtual-8086 mode (SDM vol. 3A, chapter 21): in, out, IOPL, ports, VME and PVI."""

from __future__ import annotations

import pytest

from x86.protection import (
    CODE,
    CODE0,
    DATA0,
    FREE,
    IDT,
    INTERRUPT,
    STACK0,
    TSS,
    TSS_SELECTOR,
    Machine,
    descriptor,
    gate,
)

UD, TS, GP = 6, 10, 13
CF, TF, IF, IOPL, NT, VM, VIF, VIP = 1, 0x100, 0x200, 0x3000, 0x4000, 1 << 17, 1 << 19, 1 << 20
VME, PVI = 1, 2
INNER = STACK0 - 0x400
ENTRY, PROGRAM, SEGMENT, STACK = CODE + 0x100, 0x1_2340, 0x1234, 0x1_8000
"""The 8086 program is at 1234h:0, its stack at 1800h:100h."""


class Virtual(Machine):
    """Level 0 code that enters virtual-8086 mode by IRET, and handlers that halt."""

    def __init__(self, engine: str):
        super().__init__("protected", engine)
        self.regs["tr.limit"] = 0xFF
        self.put(TSS + 0x66, 0x88, 2)  # 32 bytes of redirection bitmap from 68h
        self.cpu.write(TSS + 0x88, b"\xff" * 0x20)
        for vector in (UD, TS, GP):
            self.handler(vector)

    def go(self, text: str, flags: int = 0, *, cr4: int = 0) -> None:
        """Run ``text`` as 8086 code until level 0 halts."""
        self.code(text, PROGRAM, 16)
        self.regs["cr4"] = cr4
        frame = (0x400, 0x300, 0x200, 0x100, STACK >> 4, 0x100, flags | VM | 2, SEGMENT, 0)
        self.run("; ".join(f"push {value}" for value in frame) + "; iretd", start=ENTRY)

    def frame(self, count: int = 9, skip: int = 0) -> list[int]:
        """What the interrupt pushed: EIP CS EFLAGS ESP SS ES DS FS GS."""
        return self.stack(count, 4, self.regs["rsp"] + skip)

    def pushed(self, index: int = 0) -> int:
        """A word of the 8086 program's stack, counted from its top down."""
        return self.get(STACK + 0x100 - 2 - 2 * index, 2)

    def redirect(self, vector: int) -> None:
        """Let INT ``vector`` go to a handler of the 8086 program's, at 1000h:20h, which halts."""
        self.put(vector * 4, 0x1000_0020, 4)
        self.code("hlt", 0x1_0020, 16)
        byte = self.get(TSS + 0x68 + vector // 8, 1)
        self.put(TSS + 0x68 + vector // 8, byte & ~(1 << vector % 8), 1)


@pytest.fixture(params=["threaded", "jit", "python"])
def machine(request: pytest.FixtureRequest) -> Virtual:
    made = Virtual(request.param)
    made.cpu.write(TSS + 0x68, b"\xff" * 0x20)
    return made


def test_21_2_5_iret_enters_and_a_fault_leaves(machine: Virtual) -> None:
    machine.go("mov ax, cs; mov bx, ds; mov cx, es; hlt", CF)
    assert machine.regs["cs"] == CODE0
    assert machine.frame(1) == [0]  # the error code
    assert machine.frame(skip=4) == [6, SEGMENT, VM | CF | 2 | 1 << 16, 0x100, STACK >> 4,
                                     0x100, 0x200, 0x300, 0x400]  # fmt: skip
    assert [machine.regs[n] for n in ("ax", "bx", "cx")] == [SEGMENT, 0x200, 0x100]
    assert [machine.regs[n] for n in ("ds", "es", "fs", "gs")] == [0, 0, 0, 0]
    assert (machine.regs["ss"], machine.regs["rsp"]) == (DATA0, INNER - 40)
    assert machine.regs["eflags"] & VM == 0


def test_21_1_1_segments_are_multiplied_by_16(machine: Virtual) -> None:
    machine.put(0x5432_0 + 0x10, 0x77, 1)
    machine.go("mov ax, 0x5432; mov ds, ax; mov bl, [0x10]; hlt")
    assert machine.regs["bl"] == 0x77


def test_21_1_1_far_transfers_are_real_modes(machine: Virtual) -> None:
    machine.code("mov bx, cs; .byte 0xcb", 0x1_1130, 16)
    machine.go(".byte 0x9a; .word 0x130, 0x1100; hlt")
    assert (machine.regs["bx"], machine.frame(1, 4)) == (0x1100, [5])


def test_21_1_1_offsets_end_at_64_kib(machine: Virtual) -> None:
    machine.go("xor ebx, ebx; dec bx; mov ax, [bx]")
    assert machine.frame(2) == [0, 4]


@pytest.mark.parametrize("text", ["lldt ax", "ltr ax", "str ax", "sldt ax", "lar ax, ax",
                                  "lsl ax, ax", "verr ax", "verw ax", "arpl ax, ax"])  # fmt: skip
def test_21_2_1_protected_modes_instructions_are_ud(machine: Virtual, text: str) -> None:
    machine.go(text)
    assert machine.regs["rip"] == 0x6000 + UD * 16 + 1


@pytest.mark.parametrize("text", ["hlt", "mov eax, cr0", "lgdt [0]", "clts", "lmsw ax", "invd",
                                  "mov eax, dr0", "rdmsr"])  # fmt: skip
def test_21_1_5_privileged(machine: Virtual, text: str) -> None:
    machine.go(text, IOPL)
    assert machine.frame(2) == [0, 0]


@pytest.mark.parametrize("text", ["cli", "sti", "pushf", "popf", "int 0x30", "iret"])
def test_21_2_7_sensitive_to_iopl(machine: Virtual, text: str) -> None:
    machine.go(text, 0x2000)
    assert machine.frame(2) == [0, 0]
    assert machine.frame(1, 16) == [0x100]  # SP has not moved


def test_21_2_7_with_iopl_3_flags_are_the_programs_own(machine: Virtual) -> None:
    machine.go("sti; pushf; cli; pushf; pop ax; pop bx; or ax, 0x3001; and ax, 0xdfff; push ax;"
               " popf; hlt", IOPL)  # fmt: skip
    assert (machine.regs["bx"], machine.regs["ax"]) == (IOPL | IF | 2, 0x1003)
    assert machine.frame(1, 12) == [VM | IOPL | CF | 2 | 1 << 16]


def test_21_2_7_iret_with_iopl_3_stays_in_the_mode(machine: Virtual) -> None:
    machine.code("hlt", 0x1_1020, 16)
    machine.go("push 0x203; push 0x1100; push 0x20; iret", IOPL)
    assert machine.frame(3, 4) == [0x20, 0x1100, VM | IOPL | IF | CF | 2 | 1 << 16]


def test_21_3_1_int_n_with_iopl_3_goes_through_the_idt(machine: Virtual) -> None:
    machine.handler(0x30, INTERRUPT | 0x60)
    machine.go("int 0x30", IOPL)
    assert machine.frame() == [2, SEGMENT, VM | IOPL | 2, 0x100, STACK >> 4,
                               0x100, 0x200, 0x300, 0x400]  # fmt: skip


def test_21_3_1_a_handler_must_be_of_level_0(machine: Virtual) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0xDB, 0xC))  # level 2
    machine.handler(0x30, INTERRUPT | 0x60, selector=FREE)
    machine.go("int 0x30", IOPL)
    assert machine.frame(2) == [FREE, 0]


def test_21_3_1_int3_does_not_depend_on_iopl(machine: Virtual) -> None:
    machine.handler(3, INTERRUPT | 0x60)
    machine.go("int3", 0, cr4=VME)
    assert machine.frame(2) == [1, SEGMENT]


def test_21_2_5_the_handler_goes_back_by_iret(machine: Virtual) -> None:
    machine.handler(0x30, INTERRUPT | 0x60, code="inc ebx; iretd")
    machine.go("mov bx, 4; int 0x30; mov ax, ds; hlt", IOPL)
    assert (machine.regs["bx"], machine.regs["ax"]) == (5, 0x200)
    assert machine.frame(2, 4) == [7, SEGMENT]


def test_21_2_5_iret_to_it_pops_nothing_else_at_an_outer_level(machine: Virtual) -> None:
    machine.user()
    machine.run(f"push {VM | 2}; push {CODE0 | 3 | 16}; push 0; iretd")
    assert machine.regs["eflags"] & VM == 0


def test_21_2_8_1_ports_go_by_the_bitmap_whatever_iopl_is(machine: Virtual) -> None:
    machine.put(TSS + 0x88, 0, 1)
    machine.go("in al, 7; in al, 8", IOPL)
    assert machine.frame(2) == [0, 2]


def test_21_2_6_a_task_gate_leaves_and_iret_comes_back(machine: Virtual) -> None:
    other = 0x3400
    machine.define(TSS_SELECTOR, descriptor(TSS, 0xFF, 0x8B))
    machine.define(FREE, descriptor(other, 0x67, 0x89))
    machine.put(IDT + 0x30 * 8, gate(FREE, 0, 0xE5), 8)
    for at, value in ((0x20, CODE + 0x400), (0x24, 2), (0x38, 0xE000), (0x48, DATA0), (0x4C, CODE0),
                      (0x50, DATA0), (0x54, DATA0)):  # fmt: skip
        machine.put(other + at, value, 4)
    machine.code("iretd", CODE + 0x400)
    machine.go("int 0x30; mov ax, ds; hlt", IOPL)
    assert machine.frame(3, 4)[:2] == [4, SEGMENT]
    assert machine.regs["ax"] == 0x200
    assert machine.get(TSS + 0x24, 4) == VM | IOPL | 2


# VME -------------------------------------------------------------------------------------------


def test_table_21_2_int_n_is_redirected_with_iopl_3(machine: Virtual) -> None:
    machine.redirect(0x30)
    machine.go("int 0x30", IOPL | IF, cr4=VME)
    assert machine.frame(3, 4)[:2] == [0x20, 0x1000]
    assert machine.frame(1, 12)[0] & (IF | VM) == VM
    assert [machine.pushed(n) for n in range(3)] == [IOPL | IF | 2, SEGMENT, 2]


def test_table_21_2_int_n_is_redirected_with_vif_below(machine: Virtual) -> None:
    machine.redirect(0x30)
    machine.go("int 0x30", VIF, cr4=VME)
    assert machine.frame(3, 4) == [0x20, 0x1000, VM | 2 | 1 << 16]  # VIF is clear now
    assert machine.pushed(0) == IOPL | IF | 2


def test_table_21_2_a_set_bit_means_the_protected_mode_handler(machine: Virtual) -> None:
    machine.handler(0x30, INTERRUPT | 0x60)
    machine.go("int 0x30", IOPL, cr4=VME)
    assert machine.frame(2) == [2, SEGMENT]


def test_table_21_2_a_set_bit_is_gp_below_iopl_3(machine: Virtual) -> None:
    machine.go("int 0x30", 0, cr4=VME)
    assert machine.frame(2) == [0, 0]


def test_21_3_3_4_sti_cli_pushf_popf_iret_use_vif(machine: Virtual) -> None:
    machine.go("sti; pushf; pop ax; cli; pushf; pop bx; push 0x201; popf; hlt", 0, cr4=VME)
    assert (machine.regs["ax"], machine.regs["bx"]) == (IOPL | IF | 2, IOPL | 2)
    assert machine.frame(1, 12) == [VM | VIF | CF | 2 | 1 << 16]


def test_21_3_3_4_iret_uses_vif(machine: Virtual) -> None:
    machine.code("hlt", 0x1_1020, 16)
    machine.go("push 0x200; push 0x1100; push 0x20; iret", 0, cr4=VME)
    assert machine.frame(3, 4) == [0x20, 0x1100, VM | VIF | 2 | 1 << 16]


@pytest.mark.parametrize("text", ["sti", "push 0x200; popf", "pushfd", "push 0x100; popf"])
def test_21_3_3_4_gp(machine: Virtual, text: str) -> None:
    """With an interrupt waiting, 32-bit operands, or TF."""
    machine.go(text, VIP, cr4=VME)
    assert machine.frame(2) == [0, 3 if ";" in text else 0]


@pytest.mark.parametrize(("text", "flags"), [("sti", VIF), ("sti; cli", 0)])
def test_21_4_pvi_gives_level_3_a_vif(machine: Virtual, text: str, flags: int) -> None:
    machine.regs["cr4"] = PVI
    machine.user()
    machine.run(text + "; ud2")
    assert machine.stack(3, 4)[2] & (IF | VIF) == flags


def test_21_4_pvi_sti_with_vip(machine: Virtual) -> None:
    machine.regs["cr4"] = PVI
    machine.user()
    machine.regs["eflags"] = VIP | 2
    machine.run("sti")
    assert machine.stack(2, 4) == [0, CODE]


def test_without_pvi_it_is_gp(machine: Virtual) -> None:
    machine.user()
    machine.run("cli")
    assert machine.stack(2, 4) == [0, CODE]
