"""Debug registers and #DB in every mode (SDM vol. 3B, chapter 18)."""

from __future__ import annotations

import pytest

from x86.protection import CODE, DATA, TSS, Machine

DB, GP, PF = 1, 13, 14
TF, RF = 1 << 8, 1 << 16
BD, BS = 1 << 13, 1 << 14
IDLE = 0xFFFF_0FF0
EXECUTE, WRITE, PORT, ACCESS = range(4)
DEBUGCTL, BTF = 0x1D9, 2
DE = 8
SIZES = {1: 0, 2: 1, 4: 3, 8: 2}


def dr7(kind: int, size: int = 1, number: int = 0) -> int:
    """DR7 with one breakpoint, globally enabled."""
    return 0x400 | 2 << 2 * number | (kind | SIZES[size] << 2) << (16 + 4 * number)


class Debugged(Machine):
    """A machine whose #DB handler halts."""

    def __init__(self, mode: str, engine: str, model: str = "max"):
        super().__init__(mode, engine, model)
        if mode == "long":
            self.map_long()
        if mode == "real":
            self.regs["rsp"] = 0xB000
            self.put(DB * 4, 0x6000, 4)
            self.code("hlt", 0x6000)
        else:
            self.handler(DB)

    @property
    def size(self) -> int:
        return {"real": 2, "protected": 4, "long": 8}[self.mode]

    def arm(self, where: int, kind: int, size: int = 1, number: int = 0) -> None:
        self.regs[f"dr{number}"] = where
        self.regs["dr7"] = dr7(kind, size, number)

    def trapped(self) -> tuple[int, int]:
        """Where the handler returns to, and DR6 without its fixed bits."""
        return self.stack(1, self.size)[0], self.regs["dr6"] ^ IDLE

    @property
    def flags(self) -> int:
        return self.stack(3, self.size)[2]


@pytest.fixture(params=["threaded", "jit", "python"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["real", "protected", "long"])
def machine(request: pytest.FixtureRequest, engine: str) -> Debugged:
    return Debugged(request.param, engine)


@pytest.fixture
def flat(engine: str) -> Debugged:
    return Debugged("protected", engine)


# Instruction breakpoints -----------------------------------------------------------------------


def test_18_3_1_1_a_breakpoint_faults_before_its_instruction(machine: Debugged) -> None:
    machine.arm(CODE + 2, EXECUTE)
    machine.run("inc ebx" + "; nop" * 4 if machine.size != 2 else "inc bx; nop; nop; nop; nop")
    where = CODE + 2
    assert machine.trapped() == (where, 1)
    if machine.size != 2:
        assert machine.flags & RF == 0


def test_18_3_1_1_armed_by_the_guest_in_code_that_has_run(machine: Debugged) -> None:
    machine.code("mov ecx, 3; 1: loop 1b; ret" if machine.size != 2
                 else "mov cx, 3; 1: loop 1b; ret",
                 CODE + 0x100)  # fmt: skip
    call = {8: "mov eax, 0x8100; call rax", 4: "mov eax, 0x8100; call eax",
            2: "mov ax, 0x8100; call ax"}[machine.size]  # fmt: skip
    reg = "rax" if machine.size == 8 else "eax"
    loop = CODE + 0x100 + (3 if machine.size == 2 else 5)
    machine.run(f"{call}; mov eax, {loop}; mov dr2, {reg}; mov eax, {dr7(EXECUTE, 1, 2)};"
                f" mov dr7, {reg}; {call}; hlt")  # fmt: skip
    assert machine.trapped() == (loop, 4)
    assert machine.regs["rcx"] == 3


def test_18_3_1_1_rf_in_the_frame_lets_the_instruction_run(flat: Debugged) -> None:
    flat.handler(DB, code="inc ebx; or dword ptr [esp+8], 0x10000; iretd")
    flat.arm(CODE + 6, EXECUTE)
    stop = flat.run("mov ecx, 3; nop; loop 0x8006; hlt".replace("loop 0x8006", ".byte 0xe2, 0xfd"))
    assert (stop.kind, flat.regs["rbx"]) == ("hlt", 3)


def test_18_3_1_1_without_rf_it_comes_again(flat: Debugged) -> None:
    flat.handler(DB, code="inc ebx; cmp ebx, 5; je 1f; iretd; 1: hlt")
    flat.arm(CODE + 1, EXECUTE)
    flat.run("nop; nop")
    assert flat.regs["rbx"] == 5


def test_18_3_1_1_a_fault_of_the_instruction_comes_after_it(flat: Debugged) -> None:
    flat.handler(DB, code="inc ebx; or dword ptr [esp+8], 0x10000; iretd")
    flat.handler(6)
    flat.arm(CODE, EXECUTE)
    flat.run("ud2")
    assert flat.regs["rbx"] == 1
    assert flat.flags == RF | 2


def test_6_8_3_mov_ss_keeps_it_off_the_next_instruction(flat: Debugged) -> None:
    flat.arm(CODE + 2, EXECUTE)
    assert flat.run("mov ss, eax; nop; hlt".replace("ss, eax", "ss, ecx"), insns=0).kind == "limit"
    flat.regs["rcx"] = 0x10
    assert flat.run("mov ss, ecx; nop; hlt").kind == "hlt"
    assert flat.regs["dr6"] == IDLE


def test_mov_ss_keeps_nothing_off_on_amd_s_processors(engine: str) -> None:
    machine = Debugged("protected", engine, "max,vendor=AuthenticAMD")
    machine.arm(CODE + 2, EXECUTE)
    machine.regs["rcx"] = 0x10
    machine.run("mov ss, ecx; nop; hlt")
    assert machine.trapped() == (CODE + 2, 1)


@pytest.mark.parametrize(("instruction", "vector"), [("int3", 3), ("int 0x21", 0x21), ("into", 4)])
def test_6_8_3_a_data_breakpoint_of_mov_ss_waits_for_the_handler_of_int(
    flat: Debugged, instruction: str, vector: int
) -> None:
    handler = flat.handler(vector)
    flat.put(DATA, 0x10, 4)
    flat.arm(DATA, ACCESS, 4)
    flat.run(f"mov al, 127; inc al; mov ss, [0x9000]; {instruction}; hlt")
    assert flat.trapped() == (handler, 1)


def test_6_8_3_a_data_breakpoint_of_mov_ss_and_int1_are_one(flat: Debugged) -> None:
    flat.handler(DB, code="inc ebx; iretd")
    flat.put(DATA, 0x10, 4)
    flat.arm(DATA, ACCESS, 4)
    flat.run("mov ss, [0x9000]; int1; hlt".replace("int1", ".byte 0xf1"))
    assert (flat.regs["rbx"], flat.regs["dr6"] ^ IDLE) == (1, 1)


def test_6_8_3_sti_does_not_keep_it_off(flat: Debugged) -> None:
    flat.arm(CODE + 1, EXECUTE)
    flat.run("sti; nop; hlt")
    assert flat.trapped() == (CODE + 1, 1)


def test_a_breakpoint_between_compare_and_branch(flat: Debugged) -> None:
    flat.arm(CODE + 2, EXECUTE)
    flat.run("cmp eax, ebx; je 1f; nop; 1: hlt")
    assert flat.trapped() == (CODE + 2, 1)


def test_a_disabled_breakpoint_does_nothing(flat: Debugged) -> None:
    flat.regs["dr0"] = CODE
    flat.regs["dr7"] = 0x400
    assert flat.run("nop; hlt").rip == CODE + 2


def test_disarmed_by_the_guest(flat: Debugged) -> None:
    flat.handler(DB, code="xor eax, eax; mov dr7, eax; iretd")
    flat.arm(CODE + 1, EXECUTE)
    assert flat.run("nop; nop; hlt").rip == CODE + 3


def test_18_2_3_a_trap_and_the_next_instruction_s_breakpoint_are_one(flat: Debugged) -> None:
    flat.arm(CODE + 1, EXECUTE)
    flat.regs["eflags"] = TF | 2
    flat.run("nop; nop")
    assert flat.trapped() == (CODE + 1, BS | 1)


# Data breakpoints ------------------------------------------------------------------------------

# (armed at, kind, size), instruction, hits?
DATA_CASES = [
    (0, WRITE, 4, "mov [0x9000], ecx", True),
    (0, WRITE, 4, "mov ecx, [0x9000]", False),
    (0, ACCESS, 4, "mov ecx, [0x9000]", True),
    (0, WRITE, 1, "mov [0x9001], cl", False),
    (0, WRITE, 2, "mov [0x9001], cl", True),
    (3, WRITE, 1, "mov [0x9000], ecx", True),
    (4, WRITE, 4, "mov [0x9003], cx", True),
    (4, WRITE, 4, "mov [0x9002], cx", False),
    (6, WRITE, 4, "mov [0x9004], cl", True),  # aligned down
    (0, WRITE, 4, "inc dword ptr [0x9000]", True),
    (0, WRITE, 4, "lock xadd [0x9000], ecx", True),
    (0, ACCESS, 4, "cmp dword ptr [0x9000], 0", True),
    (0, WRITE, 4, "cmp dword ptr [0x9000], 0", False),
    (0xFFE, WRITE, 4, "mov [0x9ffe], ecx", True),  # over the page's end, aligned down
    (0x1000, WRITE, 4, "mov [0x9ffe], ecx", True),
]


@pytest.mark.parametrize("case", DATA_CASES, ids=str)
def test_18_3_1_2_data_breakpoints_trap_behind_the_instruction(
        flat: Debugged, case: tuple[int, int, int, str, bool]) -> None:  # fmt: skip
    at, kind, size, text, hits = case
    flat.arm(DATA + at, kind, size, 1)
    flat.run(f"nop; {text}; mov edx, 1; inc ebx; hlt")
    if hits:
        where, bits = flat.trapped()
        assert (bits, flat.regs["rbx"], flat.flags & RF) == (2, 0, 0)
        assert flat.get(where, 1) == 0xBA  # the MOV behind it
    else:
        assert (flat.regs["rbx"], flat.regs["dr6"]) == (1, IDLE)


def test_18_3_1_2_in_every_mode(machine: Debugged) -> None:
    machine.arm(DATA, WRITE, 2)
    machine.run("mov bx, 0x9000; nop; mov [bx], cx; nop; nop; hlt" if machine.size == 2
                else "mov ebx, 0x9000; nop; mov [rbx], cx; nop; nop; hlt" if machine.size == 8
                else "mov ebx, 0x9000; nop; mov [ebx], cx; nop; nop; hlt")  # fmt: skip
    assert machine.trapped()[1] == 1
    assert machine.get(machine.trapped()[0], 1) == 0x90


def test_18_2_4_eight_bytes_in_64_bit_mode(engine: str) -> None:
    machine = Debugged("long", engine)
    machine.arm(DATA, WRITE, 8, 3)
    machine.run("mov byte ptr [0x9007], 1; nop")
    assert machine.trapped() == (CODE + 8, 8)


def test_18_3_1_2_pushes_and_pops_count(flat: Debugged) -> None:
    flat.arm(0xB000 - 8, WRITE, 4)
    flat.run("push eax; push ebx; push ecx; hlt")
    assert flat.trapped() == (CODE + 2, 1)
    assert flat.regs["rsp"] == 0xB000 - 8 - 12


def test_18_3_1_2_pusha_is_done_whole(flat: Debugged) -> None:
    flat.arm(0xB000 - 8, WRITE, 4)
    flat.regs["rdi"] = 0x55
    flat.run("nop; pushad; nop")
    assert flat.trapped() == (CODE + 2, 1)
    assert flat.get(0xB000 - 32, 4) == 0x55


def test_18_3_1_2_a_repeated_string_instruction_traps_after_the_iteration(flat: Debugged) -> None:
    flat.arm(DATA + 2, WRITE, 1)
    flat.regs["rdi"], flat.regs["rcx"], flat.regs["rax"] = DATA, 5, 0x77
    flat.run("nop; rep stosb; nop; hlt")
    assert flat.trapped() == (CODE + 1, 1)
    assert (flat.regs["rcx"], flat.get(DATA, 4)) == (2, 0x77_7777)
    assert flat.flags == RF | 2


def test_18_3_1_2_both_operands_of_movs(flat: Debugged) -> None:
    flat.regs["dr0"], flat.regs["dr1"] = DATA, DATA + 0x10
    flat.regs["dr7"] = dr7(ACCESS) | dr7(WRITE, 1, 1)
    flat.regs["rsi"], flat.regs["rdi"] = DATA, DATA + 0x10
    flat.run("movsb; nop")
    assert flat.trapped() == (CODE + 1, 3)


def test_18_3_1_2_a_fault_wins(flat: Debugged) -> None:
    table = flat.map_legacy()
    flat.handler(PF)
    flat.put(table + 9 * 4, DATA | 1, 4)  # read-only
    flat.arm(DATA, WRITE, 4)
    flat.run("nop; mov [0x9000], eax")
    assert flat.stack(2, 4) == [3, CODE + 1]
    assert flat.regs["dr6"] == IDLE


def test_6_8_3_mov_ss_puts_the_trap_off(flat: Debugged) -> None:
    flat.put(DATA, 0x10, 2)
    flat.arm(DATA, ACCESS, 2)
    flat.run("mov ss, [0x9000]; nop; nop; hlt")
    assert flat.trapped() == (CODE + 7, 1)


def test_with_the_trap_flag_both_are_told(flat: Debugged) -> None:
    flat.arm(DATA, WRITE, 4)
    flat.regs["eflags"] = TF | 2
    flat.run("mov [0x9000], eax; nop")
    assert flat.trapped() == (CODE + 5, 1 | BS)


def test_the_frame_of_an_interrupt_counts(flat: Debugged) -> None:
    flat.handler(0x30, code="nop; hlt")
    flat.arm(0xB000 - 12, WRITE, 4)
    flat.run("nop; int 0x30")
    assert flat.trapped() == (0x6000 + 0x30 * 16, 1)


# Ports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "hits"), [
    ("in al, 0x21", True), ("out 0x22, al", True), ("in ax, 0x1f", True), ("in eax, 0x1e", True),
    ("in al, 0x24", False), ("in ax, 0x1e", False),
    ("mov dx, 0x23; insb", True), ("mov dx, 0x20; outsb", True),
])  # fmt: skip
def test_18_3_1_2_ports_with_cr4_de(flat: Debugged, text: str, *, hits: bool) -> None:
    flat.regs["cr4"] = DE
    flat.arm(0x20, PORT, 4, 2)
    flat.regs["rsi"] = flat.regs["rdi"] = DATA
    flat.run(f"nop; {text}; cld; inc ebx; hlt")
    if hits:
        where, bits = flat.trapped()
        assert (bits, flat.get(where, 1), flat.regs["rbx"]) == (4, 0xFC, 0)
    else:
        assert flat.regs["rbx"] == 1


def test_ports_without_cr4_de(flat: Debugged) -> None:
    flat.arm(0x20, PORT, 4)
    assert flat.run("in al, 0x20; hlt").rip == CODE + 3


# The rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["mov eax, dr0", "mov dr3, eax", "mov eax, dr6", "mov dr7, eax"])
def test_18_2_4_general_detect(flat: Debugged, text: str) -> None:
    flat.regs["dr7"] = 0x2400
    flat.run(text)
    assert flat.trapped() == (CODE, BD)
    assert (flat.regs["dr7"], flat.flags) == (0x400, RF | 2)


def test_18_2_2_dr4_and_dr5_are_ud_with_de(flat: Debugged) -> None:
    assert flat.run("mov eax, dr6; .byte 0x0f, 0x21, 0xe0; hlt").kind == "hlt"
    flat.regs["cr4"] = DE
    assert flat.run(".byte 0x0f, 0x21, 0xe0").vector == 6


def test_18_3_1_4_single_step_in_every_mode(machine: Debugged) -> None:
    machine.regs["eflags"] = TF | 2
    machine.run("nop; nop")
    assert machine.trapped() == (CODE + 1, BS)


def test_18_3_1_5_btf_traps_on_taken_branches_only(flat: Debugged) -> None:
    flat.regs["rcx"], flat.regs["rax"], flat.regs["rdx"] = DEBUGCTL, BTF, 0
    flat.run("wrmsr; push 0x102; popfd; nop; cmp eax, eax; jne 1f; 1: je 2f; nop; 2: nop; hlt")
    where, bits = flat.trapped()
    assert (flat.get(where, 2), bits) == (0xF490, BS)
    flat.code("mov ecx, 0x1d9; rdmsr; hlt", CODE + 0x200)
    flat.cpu.run(CODE + 0x200)
    assert flat.regs["rax"] == 0  # #DB clears it


def test_18_3_2_int1_is_db_without_a_dr6_bit(flat: Debugged) -> None:
    flat.run(".byte 0xf1; nop")
    assert flat.trapped() == (CODE + 1, 0)


def test_18_3_1_dr6_keeps_all_but_the_hits(flat: Debugged) -> None:
    flat.regs["dr6"] = IDLE | BD | 8
    flat.arm(CODE, EXECUTE)
    flat.run("nop")
    assert flat.trapped()[1] == BD | 1


def test_an_address_of_another_page_costs_nothing_but_its_page(flat: Debugged) -> None:
    flat.arm(TSS, WRITE, 4)
    assert flat.run("mov ecx, 1000; 1: mov [0x9000], ecx; loop 1b; hlt", insns=5000).kind == "hlt"
