"""IA-32e mode: 64-bit gates, IST, SYSCALL, SYSENTER, canonical addresses, MSRs, mode switches."""

from __future__ import annotations

import pytest

from x86.kvm_differences import KVM, skip_on_kvm
from x86.protection import (
    BIG,
    CODE,
    CODE0,
    CODE3,
    DATA,
    DATA0,
    DATA3,
    FREE,
    GDT,
    IDT,
    INTERRUPT,
    IST1,
    LONG,
    STACK0,
    STACK3,
    TABLES,
    TSS,
    TSS_SELECTOR,
    Machine,
    descriptor,
    gate,
)

GP, SS, UD, PF = 13, 12, 6, 14
STAR, LSTAR, CSTAR, FMASK = 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084


@pytest.fixture(params=["threaded", "jit", KVM])
def machine(request: pytest.FixtureRequest) -> Machine:
    if request.param == "kvm":
        skip_on_kvm(request)
    made = Machine("long", request.param)
    made.map_long()
    return made


def fault(machine: Machine, text: str) -> tuple[int | None, int | None]:
    """Vector and error code of the exception that ``text`` ends in."""
    stop = machine.run(text)
    assert stop.kind == "exception", stop
    return stop.vector, stop.error_code


# Interrupts ------------------------------------------------------------------------------------


def test_interrupt_aligns_the_stack_and_pushes_five_quadwords(machine: Machine) -> None:
    machine.handler(0x30)
    machine.regs["rsp"] = STACK0 - 4
    machine.run("int 0x30")
    assert machine.stack(5, 8) == [CODE + 2, CODE0, 2, STACK0 - 4, DATA0]
    assert machine.regs["rsp"] == STACK0 - 16 - 40


def test_iretq_restores_the_stack(machine: Machine) -> None:
    machine.handler(0x30, code="mov ebx, 7; iretq")
    machine.regs["rsp"] = STACK0 - 4
    stop = machine.run("int 0x30; hlt")
    assert (stop.rip, machine.regs["rsp"], machine.regs["rbx"]) == (CODE + 3, STACK0 - 4, 7)


def test_ist_is_used_at_the_same_level_too(machine: Machine) -> None:
    machine.handler(0x30, ist=1)
    machine.run("int 0x30")
    assert machine.regs["rsp"] == IST1 - 40
    assert machine.regs["ss"] == DATA0


def test_user_int_nulls_ss_and_iretq_goes_back(machine: Machine) -> None:
    machine.handler(0x80, INTERRUPT | 0x60, code="mov eax, ss; mov ebx, esp; iretq")
    machine.user()
    stop = machine.run("int 0x80; hlt")
    assert (stop.vector, stop.rip, machine.regs["rax"]) == (GP, CODE + 2, 0)
    assert machine.regs["rbx"] == STACK0 - 0x400 - 40
    assert (machine.regs["rsp"], machine.regs["ss"], machine.regs["cpl"]) == (STACK3, DATA3, 3)


def test_handler_must_be_64_bit_code(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0x9B, BIG))
    machine.handler(GP)
    machine.handler(0x30, selector=FREE)
    machine.run("int 0x30")
    assert machine.get(machine.regs["rsp"], 8) == FREE


def test_32_bit_gate_types_do_not_exist(machine: Machine) -> None:
    machine.handler(GP)
    machine.handler(0x30, 0x86)
    machine.run("int 0x30")
    assert machine.get(machine.regs["rsp"], 8) == 0x30 * 8 + 2


def test_page_fault_while_delivering_a_page_fault_is_a_double_fault(machine: Machine) -> None:
    table = TABLES + 0x3000
    machine.put(table + 8 * 5, 0, 8)
    machine.handler(8, ist=1)
    machine.handler(PF)
    machine.put(TSS + 44, 0x6000 - 8, 8)  # IST 2, on a page that is not there
    machine.put(IDT + PF * 16, gate(CODE0, 0x60E0, INTERRUPT, 2), 8)
    machine.run("mov al, [0x5000]")
    assert machine.regs["rsp"] == IST1 - 48
    assert machine.stack(2, 8) == [0, CODE]
    assert machine.regs["cr2"] == 0x6000 - 24


def test_iretq_to_a_non_canonical_address(machine: Machine) -> None:
    text = (f"push {DATA0}; push {STACK0}; push 2; push {CODE0}; mov rax, 0x800000000000;"
            "push rax; iretq")  # fmt: skip
    assert fault(machine, text) == (GP, 0)


def test_iretq_to_user_keeps_the_base_of_a_segment_it_nulls(machine: Machine) -> None:
    machine.code("mov rax, gs:[0x10]; nop; hlt", CODE + 0x100)
    machine.put(DATA + 0x10, 0x1234, 8)
    text = f"push {DATA3}; push {STACK3}; push 2; push {CODE3}; push {CODE + 0x100}; iretq"
    machine.run(wrmsr(0xC000_0101, DATA) + text)
    assert (machine.regs["gs"], machine.regs["gs.base"], machine.regs["rax"]) == (0, DATA, 0x1234)


def test_iretq_to_compatibility_mode(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0xFB, BIG))
    machine.code("mov eax, 0x11223344; .byte 0x48; ud2", CODE + 0x100, 32)  # 48: DEC EAX here
    text = (f"push {DATA3}; push {STACK3}; push 2; push {FREE | 3}; push {CODE + 0x100}; iretq")
    stop = machine.run(text)
    assert (stop.vector, machine.regs["rax"]) == (UD, 0x1122_3343)
    assert (machine.regs["cs"], machine.regs["rsp"]) == (FREE | 3, STACK3)


def test_nt_makes_iret_fault(machine: Machine) -> None:
    assert fault(machine, "pushfq; or word ptr [rsp], 0x4000; popfq; iretq") == (GP, 0)


# Canonical addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "vector"), [
    ("mov rax, 0x800000000000; mov al, [rax]", GP),
    ("mov rax, 0xffff7fffffffffff; mov [rax], al", GP),
    ("mov rsp, 0x800000000010; push rax", SS),
    ("mov rax, 0x7ffffffffff0; mov al, [rax]", PF),
    ("mov rax, 0x800000000000; jmp rax", GP),
])  # fmt: skip
def test_address(machine: Machine, text: str, vector: int) -> None:
    assert machine.run(text).vector == vector


# SYSCALL, SYSENTER -----------------------------------------------------------------------------


def wrmsr(index: int, value: int) -> str:
    """Code that writes an MSR."""
    low, high = value & 0xFFFF_FFFF, value >> 32
    return f"mov ecx, {index:#x}; mov eax, {low:#x}; mov edx, {high:#x}; wrmsr;"


def test_syscall_and_sysret(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0xFB, BIG))
    machine.define(FREE + 8, descriptor(0, 0xFFFFF, 0xF3, BIG))
    machine.define(FREE + 16, descriptor(0, 0xFFFFF, 0xFB, LONG))
    machine.regs["efer"] |= 1
    machine.regs["star"] = (FREE | 3) << 48 | CODE0 << 32
    machine.regs["lstar"], machine.regs["fmask"] = CODE + 0x100, 0x200
    machine.code("mov ebx, cs; mov esi, ss; pushfq; pop rdi; sysretq", CODE + 0x100)
    machine.user()
    machine.regs["eflags"] = 0x246
    stop = machine.run("syscall; ud2")
    assert (stop.vector, stop.rip) == (UD, CODE + 2)
    assert (machine.regs["rbx"], machine.regs["rsi"], machine.regs["rdi"]) == (CODE0, DATA0, 0x46)
    assert (machine.regs["rcx"], machine.regs["r11"]) == (CODE + 2, 0x246)
    assert (machine.regs["cs"], machine.regs["ss"]) == (FREE + 16 | 3, FREE + 8 | 3)
    assert (machine.regs["eflags"], machine.regs["cpl"]) == (0x246, 3)


def test_syscall_without_sce(machine: Machine) -> None:
    assert fault(machine, "syscall") == (UD, None)


def test_sysret_to_a_non_canonical_address_faults_at_level_0(machine: Machine) -> None:
    machine.regs["efer"] |= 1
    machine.regs["rcx"] = 1 << 47
    assert fault(machine, "sysretq") == (GP, 0)
    assert machine.regs["cpl"] == 0


def test_sysenter_and_sysexit(machine: Machine) -> None:
    machine.regs["sysenter_cs"] = CODE0
    machine.regs["sysenter_eip"], machine.regs["sysenter_esp"] = CODE + 0x100, STACK0
    machine.code(f"mov rbx, rsp; mov edx, {CODE + 0x200}; mov ecx, {STACK3}; sysexit",
                 CODE + 0x100)  # fmt: skip
    machine.code("ud2", CODE + 0x200, 32)
    machine.user()
    stop = machine.run("sysenter")
    assert (stop.vector, stop.rip) == (UD, CODE + 0x200)
    assert (machine.regs["rbx"], machine.regs["rsp"]) == (STACK0, STACK3)
    assert (machine.regs["cs"], machine.regs["ss"]) == (CODE0 + 16 | 3, CODE0 + 24 | 3)


def test_sysenter_with_a_null_cs(machine: Machine) -> None:
    assert fault(machine, "sysenter") == (GP, 0)


def test_swapgs(machine: Machine) -> None:
    machine.regs["gs.base"], machine.regs["kernel_gs_base"] = 0x1111, DATA
    machine.put(DATA, 0x42, 1)
    machine.run("swapgs; mov al, gs:[0]; hlt")
    assert (machine.regs["al"], machine.regs["kernel_gs_base"]) == (0x42, 0x1111)


def test_fsgsbase_needs_cr4(machine: Machine) -> None:
    assert fault(machine, "wrfsbase rax") == (UD, None)
    stop = machine.run("mov rax, cr4; or eax, 0x10000; mov cr4, rax; mov eax, 0x9000;"
                       " wrgsbase rax; rdgsbase rbx; hlt")  # fmt: skip
    assert (stop.kind, machine.regs["rbx"], machine.regs["gs.base"]) == ("hlt", DATA, DATA)


@pytest.mark.parametrize(("base", "model", "fits"), [
    (0xFFFF_AAAA_AAAA_AAAA, "max", True), (0xFFAA_AAAA_AAAA_AAAA, "max", False),
    (0xFFAA_AAAA_AAAA_AAAA, "max,+la57", True), (0xAAAA_AAAA_AAAA_AAAA, "max,+la57", False),
])  # fmt: skip
@pytest.mark.parametrize(("text", "error"), [
    ("lgdt [0x9000]", 0), ("lidt [0x9000]", 0), (".byte 0x66; lidt [0x9000]", 0),
    ("mov eax, 0x48; ltr ax", 0x48), ("mov eax, 0x58; lldt ax", 0x58),
    ("mov ecx, 0xc0000102; mov eax, ebx; mov rdx, rbx; shr rdx, 32; wrmsr", 0),
    ("mov rax, cr4; or eax, 0x10000; mov cr4, rax; wrgsbase rbx", 0),
    ("mov qword ptr [0x9000], 0; xor eax, eax; invpcid rax, [0x9000]", 0),
])  # fmt: skip
def test_what_becomes_a_base_is_as_wide_as_the_processor_s_addresses(
    base: int, model: str, fits: bool, text: str, error: int
) -> None:
    """SDM vol. 3A, 4.5.2 and vol. 2A: by CPUID's LA57, whatever CR4.LA57 says."""
    machine = Machine("long", "threaded", model)
    machine.map_long()
    for selector, access in ((FREE, 0x89), (FREE + 16, 0x82)):
        machine.define(selector, descriptor(base & 0xFFFF_FFFF, 0x67, access))
        machine.put(GDT + selector + 8, base >> 32, 8)
    machine.cpu.write(DATA, (0xFFFF).to_bytes(2, "little") + base.to_bytes(8, "little"))
    if "invpcid" in text:
        machine.put(DATA + 8, base, 8)
    machine.regs["rbx"] = base
    stop = machine.run(f"{text}; hlt")
    assert (stop.kind, stop.error_code) == (("hlt", None) if fits else ("exception", error))


def test_tf_traps_syscall_and_sysret_by_what_it_is_behind_them(machine: Machine) -> None:
    """AMD vol. 2, 6.1.1: single-stepped user code never stops at the kernel's entry."""
    machine.handler(1, code="hlt")
    machine.code("nop; sysretq", CODE + 0x200)
    machine.code("syscall; 1: nop; nop", CODE + 0x100)
    machine.put(GDT + 0x38, machine.get(GDT + DATA3 - 3, 8), 8)
    machine.put(GDT + 0x40, machine.get(GDT + CODE3 - 3, 8), 8)
    setup = (wrmsr(0xC000_0081, 0x30 << 48 | 8 << 32) + wrmsr(0xC000_0082, CODE + 0x200)
             + wrmsr(0xC000_0084, 0x100) + "mov ecx, 0xc0000080; rdmsr; or eax, 1; wrmsr; ")
    machine.run(setup + f"mov ecx, {CODE + 0x100}; mov r11d, 0x102; nop; sysretq")
    assert machine.stack(1, 8) == [CODE + 0x100]  # by SYSRET's new TF, before anything ran
    machine.put(machine.regs["rsp"] + 16, 2, 8)
    machine.regs["rcx"] = 0
    machine.run(f"push {0x3B}; push {STACK3}; push 0x102; push {0x43}; push {CODE + 0x100}; iretq")
    assert machine.stack(1, 8) == [CODE + 0x102] and machine.regs["rcx"] == CODE + 0x102


# MSRs, CPUID, TSC ------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "value", "name"), [
    (STAR, 0x1234_5678_9ABC_DEF0, "star"), (LSTAR, 0xFFFF_FFFF_8000_0000, "lstar"),
    (CSTAR, 0x1000, "cstar"), (FMASK, 0x4_7700, "fmask"), (0xC000_0100, DATA, "fs.base"),
    (0xC000_0101, DATA, "gs.base"), (0xC000_0102, DATA, "kernel_gs_base"),
    (0x277, 0x0007_0106_0007_0106, "pat"), (0xC000_0103, 7, "tsc_aux"),
    (0x174, 8, "sysenter_cs"), (0x175, DATA, "sysenter_esp"), (0x176, CODE, "sysenter_eip"),
])  # fmt: skip
def test_msr_reads_back(machine: Machine, index: int, value: int, name: str) -> None:
    machine.run(wrmsr(index, value) + "xor eax, eax; xor edx, edx; rdmsr; hlt")
    assert machine.regs["rdx"] << 32 | machine.regs["rax"] == value == machine.regs[name]


@pytest.mark.parametrize("index", [0x200, 0x20F, 0x250, 0x259, 0x26F, 0x2FF])
def test_mtrr_reads_back(machine: Machine, index: int) -> None:
    machine.run(wrmsr(index, 0x0606_0606_0505_0505) + "xor eax, eax; rdmsr; hlt")
    assert machine.regs["rax"] == 0x0505_0505


@pytest.mark.parametrize(("index", "value"), [
    (LSTAR, 1 << 47), (0xC000_0100, 1 << 63), (0x277, 2), (0xC000_0080, 1 << 1),
    (0x1234, 0), (0xC000_0080, 0), (0xC000_0103, 1 << 32),
])  # fmt: skip
def test_msr_refuses(machine: Machine, index: int, value: int) -> None:
    assert fault(machine, wrmsr(index, value)) == (GP, 0)


def test_rdmsr_of_an_unknown_msr(machine: Machine) -> None:
    assert fault(machine, "mov ecx, 0x1234; rdmsr") == (GP, 0)


def test_tsc_runs_and_can_be_set(machine: Machine) -> None:
    machine.run(wrmsr(0x10, 1 << 40) + "rdtscp; hlt")
    assert 1 << 8 <= machine.regs["rdx"] < 1 << 9


def test_tsd_keeps_users_from_the_tsc(machine: Machine) -> None:
    machine.regs["cr4"] |= 4
    machine.user()
    assert fault(machine, "rdtsc") == (GP, 0)


def test_cpuid_names_the_vendor_and_osxsave_follows_cr4(machine: Machine) -> None:
    machine.run("xor eax, eax; cpuid; hlt")
    words = (machine.regs[name].to_bytes(4, "little") for name in ("rbx", "rdx", "rcx"))
    assert b"".join(words) == b"GenuineIntel"
    machine.run("mov rax, cr4; and eax, ~0x40000; mov cr4, rax; mov eax, 1; cpuid; hlt")
    assert not machine.regs["rcx"] >> 27 & 1
    machine.run("mov rax, cr4; or eax, 0x40000; mov cr4, rax; mov eax, 1; cpuid; hlt")
    assert machine.regs["rcx"] >> 27 & 1


# Mode switches ---------------------------------------------------------------------------------


def test_protected_code_enters_long_mode_and_leaves_it() -> None:
    machine = Machine("protected")
    machine.map_long()
    machine.regs["cr0"], machine.regs["cr4"] = 0x31, 0x600
    machine.regs["efer"] = 0
    machine.define(FREE, descriptor(0, 0xFFFFF, 0x9B, LONG))
    enter = (f"mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, {TABLES}; mov cr3, eax;"
             f" mov ecx, 0xc0000080; mov eax, 0x100; xor edx, edx; wrmsr;"
             f" mov eax, 0x80000031; mov cr0, eax; ljmp {FREE}, {CODE + 0x100}")  # fmt: skip
    machine.code("mov rbx, 0x1122334455667788; mov ecx, 0xc0000080; rdmsr; mov esi, eax;"
                 f" push {CODE0}; push {CODE + 0x200}; retfq", CODE + 0x100, 64)  # fmt: skip
    machine.code("mov eax, 0x31; mov cr0, eax; rdmsr; hlt", CODE + 0x200)
    assert machine.run(enter).kind == "hlt"
    assert machine.regs["rbx"] == 0x1122_3344_5566_7788
    assert (machine.regs["rsi"], machine.regs["rax"]) == (0x500, 0x100)


def test_paging_with_lme_needs_pae() -> None:
    machine = Machine("protected")
    assert fault(machine, wrmsr(0xC000_0080, 0x100) + "mov eax, 0x80000031; mov cr0, eax") \
        == (GP, 0)  # fmt: skip


def test_pae_can_not_be_cleared_in_long_mode(machine: Machine) -> None:
    assert fault(machine, "mov rax, cr4; and eax, ~0x20; mov cr4, rax") == (GP, 0)


def test_ltr_and_lldt_take_16_byte_descriptors(machine: Machine) -> None:
    machine.put(GDT + TSS_SELECTOR + 8, 0xFFFF_8000, 8)
    machine.define(FREE, descriptor(0x1234, 0xF, 0x82))
    machine.put(GDT + FREE + 8, 1, 8)
    machine.run(f"mov eax, {TSS_SELECTOR}; ltr ax; mov eax, {FREE}; lldt ax; hlt")
    assert machine.regs["tr.base"] == 0xFFFF_8000_0000_0000 | TSS
    assert machine.regs["ldtr.base"] == 0x1_0000_1234


def test_64_bit_call_gate(machine: Machine) -> None:
    machine.define(FREE, gate(CODE0, CODE + 0x100, 0xEC))
    machine.put(GDT + FREE + 8, 0, 8)
    machine.code("mov rbx, rsp; mov ecx, ss; retfq", CODE + 0x100)
    machine.user()
    machine.put(DATA, 0, 8)
    machine.put(DATA + 4, FREE | 3, 2)
    stop = machine.run("call fword ptr [0x9000]; ud2")
    assert (stop.vector, stop.rip, machine.regs["rcx"]) == (UD, CODE + 7, 0)
    assert machine.regs["rbx"] == STACK0 - 0x400 - 32
    assert (machine.regs["rsp"], machine.regs["ss"]) == (STACK3, DATA3)


def test_null_ss_is_fine_below_level_3(machine: Machine) -> None:
    assert machine.run("xor eax, eax; mov ss, ax; push rax; hlt").kind == "hlt"
