"""Checks that a control bit or a vendor asks for: #AC, UMIP, #SS in 64-bit code, SYSCALL's kin."""

from __future__ import annotations

import pytest

from pytcg import Cpu
from x86.protection import CODE, CODE3, DATA, IDT, NX, RAM, RW, STACK3, TABLES, US, Machine, P

UD, SS, GP, PF, AC = 6, 12, 13, 14, 17
CR0_AM, EFLAGS_AC, CR4_UMIP = 1 << 18, 1 << 18, 1 << 11


@pytest.fixture(params=["threaded", "jit", "python"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def machine(engine: str) -> Machine:
    return Machine("protected", engine)


@pytest.fixture
def long(engine: str) -> Machine:
    made = Machine("long", engine)
    made.map_long()
    return made


def aligned(machine: Machine) -> None:
    """Level 3 with alignment checks on."""
    machine.user()
    machine.regs["cr0"] |= CR0_AM
    machine.regs["eflags"] = EFLAGS_AC | 2


# Alignment (SDM vol. 3A, 6.15, interrupt 17) ---------------------------------------------------


@pytest.mark.parametrize(("text", "faults"), [
    ("mov eax, [0x9000]", False), ("mov eax, [0x9002]", True), ("mov [0x9001], ax", True),
    ("mov al, [0x9001]", False), ("inc dword ptr [0x9002]", True), ("mov ax, [0x9002]", False),
    ("push eax", False), ("mov esp, 0x9f02; push eax", True), ("fld qword ptr [0x9004]", True),
    ("fld qword ptr [0x9008]", False), ("mov esi, 0x9001; lodsd", True),
    ("mov edi, 0x9002; mov ecx, 2; rep stosd", True), ("mov eax, [0x9ffe]", True),
])  # fmt: skip
def test_6_15_alignment_is_checked_at_level_3(machine: Machine, text: str, *, faults: bool) -> None:
    aligned(machine)
    stop = machine.run(f"{text}; ud2")
    assert (stop.vector, stop.error_code) == ((AC, 0) if faults else (UD, None))


@pytest.mark.parametrize("without", ["level 3", "CR0.AM", "EFLAGS.AC"])
def test_6_15_it_needs_all_three(machine: Machine, without: str) -> None:
    aligned(machine)
    if without == "level 3":
        machine = Machine("protected")
        machine.regs["cr0"] |= CR0_AM
        machine.regs["eflags"] = EFLAGS_AC | 2
    elif without == "CR0.AM":
        machine.regs["cr0"] &= ~CR0_AM
    else:
        machine.regs["eflags"] = 2
    assert machine.run("mov eax, [0x9001]; ud2").vector == UD


def test_6_15_popf_turns_it_on_and_off(machine: Machine) -> None:
    machine.user()
    machine.regs["cr0"] |= CR0_AM
    text = "mov eax, [0x9001]; push {}; popfd; mov eax, [0x9001]; ud2"
    assert machine.run(text.format(EFLAGS_AC | 2)).vector == AC
    machine.regs["rsp"] = STACK3
    machine.regs["eflags"] = EFLAGS_AC | 2
    assert machine.run("push 2; popfd; mov eax, [0x9001]; ud2").vector == UD


def test_6_15_a_page_fault_comes_first(machine: Machine) -> None:
    table = machine.map_legacy()
    machine.put(table + 9 * 4, 0, 4)
    aligned(machine)
    assert machine.run("mov eax, [0x9001]").vector == PF


def test_6_15_the_processors_own_accesses_are_not_checked(machine: Machine) -> None:
    machine.put(IDT + 0x80 * 8, 0, 8)
    aligned(machine)
    machine.regs["gdtr.base"] += 0  # its descriptors are aligned, its reads are a supervisor's
    assert machine.run("mov ecx, 0x23; mov es, ecx; ud2").vector == UD


# UMIP (SDM vol. 3A, 2.5) -----------------------------------------------------------------------

TELLING = ["sgdt [0x9000]", "sidt [0x9000]", "sldt ax", "str ax", "smsw ax", "smsw [0x9000]"]


@pytest.mark.parametrize("text", TELLING)
def test_2_5_umip(machine: Machine, text: str) -> None:
    machine.regs["cr4"] = CR4_UMIP
    assert machine.run(f"{text}; hlt").kind == "hlt"
    machine.user()
    stop = machine.run(f"{text}; ud2")
    assert (stop.vector, stop.error_code) == (GP, 0)
    machine.regs["cr4"] = 0
    assert machine.run(f"{text}; ud2").vector == UD


# Non-canonical addresses (SDM vol. 1, 3.3.7.1) -------------------------------------------------

WILD = "mov rbp, 0x800000001000; mov rsp, rbp; mov rax, rbp; "


@pytest.mark.parametrize(("text", "vector"), [
    ("push rcx", SS), ("pop rcx", SS), ("call 1f; 1: nop", SS), ("ret", SS), ("pushfq", SS),
    ("mov rcx, [rbp]", SS), ("mov rcx, [rsp + 8]", SS), ("mov rcx, [rax]", GP), ("leave", SS),
    ("mov rcx, [rax + rbp]", GP), ("mov [rbp + 8], cl", SS), ("enter 8, 0", SS),
    ("mov rsp, 0xc000; push qword ptr [rax]", GP), ("mov rsp, 0xc000; pop qword ptr [rax]", GP),
    ("inc qword ptr [rbp]", SS), ("mov rsi, rax; lodsb", GP),
])  # fmt: skip
def test_3_3_7_1_ss_or_gp(long: Machine, text: str, vector: int) -> None:
    stop = long.run(WILD + text)
    assert (stop.vector, stop.error_code) == (vector, 0)


# Vendors ---------------------------------------------------------------------------------------


def of_model(changes: str, mode: str = "long", engine: str = "threaded") -> Machine:
    machine = Machine(mode, engine)
    machine.cpu = Cpu(mode=mode, model=f"max,{changes}", engine=engine)
    machine.cpu.map(0, RAM)
    machine.regs = machine.cpu.regs
    machine._tables()
    if mode == "long":
        machine.map_long()
    return machine


INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@pytest.mark.parametrize("vendor", [INTEL, AMD])
def test_sysret_loads_ss_whole_on_intels_only(vendor: str) -> None:
    machine = of_model(f"vendor={vendor}")
    machine.regs["efer"] |= 1
    machine.regs["star"] = (CODE3 - 16) << 48
    machine.regs["rcx"] = CODE + 0x100
    machine.code("ud2", CODE + 0x100)
    before = machine.regs["ss.attr"]
    assert machine.run("sysretq").vector == UD
    assert machine.regs["ss"] == CODE3 - 8
    assert machine.regs["ss.attr"] == (before if vendor == AMD else 0xC0F3)


@pytest.mark.parametrize(("vendor", "cpl"), [(INTEL, 0), (AMD, 3)])
def test_sysret_to_a_non_canonical_address(vendor: str, cpl: int) -> None:
    machine = of_model(f"vendor={vendor}")
    machine.regs["efer"] |= 1
    machine.regs["star"] = (CODE3 - 16) << 48
    machine.regs["rcx"] = 1 << 47
    assert machine.run("sysretq").vector == GP
    assert machine.regs["cpl"] == cpl


@pytest.mark.parametrize(("vendor", "text", "mode", "vector"), [
    (AMD, "sysenter", "long", UD), (AMD, "sysexit", "long", UD), (INTEL, "sysenter", "long", GP),
    (AMD, "sysenter", "protected", GP), (INTEL, "syscall", "protected", UD),
])  # fmt: skip
def test_who_has_sysenter_and_syscall(vendor: str, text: str, mode: str, vector: int) -> None:
    machine = of_model(f"vendor={vendor}", mode)
    machine.regs["efer"] |= 1
    assert machine.run(text).vector == vector


def test_lock_mov_cr0_is_cr8(long: Machine) -> None:
    stop = long.run("mov eax, 5; .byte 0xf0; mov cr0, rax; mov rbx, cr8;"
                    " .byte 0xf0; mov rcx, cr0; hlt")  # fmt: skip
    assert stop.kind == "hlt"
    assert long.regs["rbx"] == long.regs["rcx"]
    assert (long.regs["rcx"] & 1, long.regs["cr0"] & 1) == (0, 1)
    assert long.run(".byte 0xf0; mov cr3, rax").vector == UD


def test_memory_is_as_before_a_fault(long: Machine) -> None:
    long.put(DATA, 0x1234, 2)
    long.run(WILD + "mov rcx, [0x9000]; push rcx")
    assert (long.regs["rsp"], long.get(DATA, 2)) == ((1 << 47) + 0x1000, 0x1234)


# 5-level paging (SDM vol. 3A, 4.5) -------------------------------------------------------------

CR4_LA57, CR4_PKE = 1 << 12, 1 << 22
FAR = 1 << 48


@pytest.fixture
def wide(engine: str) -> Machine:
    """The first 2 MiB at 0 and at `FAR`."""
    machine = of_model("+la57", engine=engine)
    root = TABLES + 0x5000
    for entry in (0, 1):
        machine.put(root + 8 * entry, TABLES | P | RW | US, 8)
    machine.regs["cr3"], machine.regs["cr4"] = root, machine.regs["cr4"] | CR4_LA57
    return machine


def test_4_5_5_a_fifth_level(wide: Machine) -> None:
    wide.put(DATA, 0x77, 1)
    wide.code("mov rbx, 0x1000000009000; mov cl, [rbx]; mov rsp, 0x100000000b000; push rcx; hlt",
              CODE + 0x100)  # fmt: skip
    stop = wide.run(f"mov rax, {FAR + CODE + 0x100}; jmp rax")
    assert (stop.kind, stop.rip >> 48, wide.regs["cl"]) == ("hlt", 1, 0x77)
    assert wide.get(0xB000 - 8, 1) == 0x77


@pytest.mark.parametrize(("text", "vector"), [
    ("mov rax, 0x100000000000000; mov al, [rax]", GP), ("mov rax, 0xfe00000000000000; jmp rax", GP),
    ("mov rax, 0x2000000000000; mov al, [rax]", PF),
    ("mov rax, cr4; btc rax, 12; mov cr4, rax", GP),
    ("mov rsp, 0x100000000001000; push rax", SS),
])  # fmt: skip
def test_4_5_5_addresses_have_57_bits(wide: Machine, text: str, vector: int) -> None:
    assert wide.run(text).vector == vector


def test_without_la57_addresses_have_48_bits(long: Machine) -> None:
    assert long.run(f"mov rax, {FAR}; mov al, [rax]").vector == GP
    assert long.run("mov rax, cr4; bts rax, 12; mov cr4, rax").vector == GP


# Protection keys (SDM vol. 3A, 4.6.2) ----------------------------------------------------------

KEY = 3
AD, WD = 1 << 2 * KEY, 2 << 2 * KEY


@pytest.fixture
def keyed(engine: str) -> Machine:
    """`DATA` is a user page with key 3."""
    machine = of_model("+pku", engine=engine)
    machine.put(TABLES + 0x3000 + 9 * 8, DATA | KEY << 59 | P | RW | US, 8)
    machine.regs["cr4"] |= CR4_PKE
    return machine


WRITE_PKRU = "mov eax, {}; xor ecx, ecx; xor edx, edx; wrpkru; "


@pytest.mark.parametrize(("pkru", "text", "error"), [
    (AD, "mov al, [0x9000]", 0x25), (AD, "mov [0x9000], al", 0x27), (WD, "mov al, [0x9000]", None),
    (WD, "mov [0x9000], al", 0x27), (AD << 2, "mov [0x9000], al", None),
    (AD | WD, "mov rax, 0x9000; jmp rax", None),
])  # fmt: skip
def test_4_6_2_user_accesses(keyed: Machine, pkru: int, text: str, error: int | None) -> None:
    keyed.code("ud2", DATA)
    keyed.user()
    stop = keyed.run(f"mov bl, [0x9000]; mov [0x9000], bl; {WRITE_PKRU.format(pkru)}{text}; ud2")
    assert (stop.vector, stop.error_code) == ((UD, None) if error is None else (PF, error))


@pytest.mark.parametrize(("pkru", "text", "error"), [
    (AD, "mov al, [0x9000]", 0x21), (WD, "mov [0x9000], al", 0x23),
    (WD, "mov rax, cr0; btr rax, 16; mov cr0, rax; mov [0x9000], al", None),
])  # fmt: skip
def test_4_6_2_supervisor_accesses(keyed: Machine, pkru: int, text: str,
                                   error: int | None) -> None:  # fmt: skip
    stop = keyed.run(f"{WRITE_PKRU.format(pkru)}{text}; ud2")
    assert (stop.vector, stop.error_code) == ((UD, None) if error is None else (PF, error))


def test_4_6_2_supervisor_pages_have_no_key(keyed: Machine) -> None:
    keyed.put(TABLES + 0x3000 + 9 * 8, DATA | KEY << 59 | P | RW, 8)
    assert keyed.run(WRITE_PKRU.format(AD) + "mov al, [0x9000]; hlt").kind == "hlt"


def test_rdpkru_and_wrpkru(keyed: Machine) -> None:
    keyed.run(WRITE_PKRU.format(0x1234) + "dec rdx; dec rax; rdpkru; mov esi, eax;"
              " mov eax, 7; cpuid; hlt")  # fmt: skip
    assert (keyed.regs["rsi"], keyed.regs["rcx"] >> 3 & 3) == (0x1234, 3)  # PKU, OSPKE
    assert keyed.run("mov ecx, 1; rdpkru").vector == GP
    assert keyed.run("xor ecx, ecx; mov edx, 1; wrpkru").vector == GP
    keyed.regs["cr4"] &= ~CR4_PKE
    assert keyed.run("xor ecx, ecx; rdpkru").vector == UD


def test_keys_are_ignored_without_pke(long: Machine) -> None:
    long.put(TABLES + 0x3000 + 9 * 8, DATA | 15 << 59 | P | RW | US | NX, 8)
    assert long.run("mov al, [0x9000]; hlt").kind == "hlt"
