"""Protection in 32-bit protected mode: gates, rings, segment checks, far transfers, I/O rights."""

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
    FLAT_CODE,
    FLAT_DATA,
    FREE,
    GDT,
    IDT,
    INTERRUPT,
    LDT,
    STACK0,
    STACK3,
    TRAP,
    TSS,
    TSS_SELECTOR,
    Machine,
    descriptor,
    gate,
)

GP, NP, SS, TS, PF, UD, DF = 13, 11, 12, 10, 14, 6, 8


@pytest.fixture(params=["threaded", "jit", KVM])
def machine(request: pytest.FixtureRequest) -> Machine:
    if request.param == "kvm":
        skip_on_kvm(request)
    return Machine("protected", request.param)


def fault(machine: Machine, text: str) -> tuple[int | None, int | None]:
    """Vector and error code of the exception that ``text`` ends in."""
    stop = machine.run(text)
    assert stop.kind == "exception", stop
    return stop.vector, stop.error_code


# Interrupts ------------------------------------------------------------------------------------


def test_interrupt_gate_clears_if_and_tf_and_pushes_flags_cs_eip(machine: Machine) -> None:
    machine.handler(0x30)
    machine.regs["eflags"] = 0x202
    assert machine.run("int 0x30").kind == "hlt"
    assert machine.stack(3, 4) == [CODE + 2, CODE0, 0x202]
    assert machine.regs["eflags"] == 2


def test_trap_gate_keeps_if(machine: Machine) -> None:
    machine.handler(0x30, TRAP)
    machine.regs["eflags"] = 0x202
    machine.run("int 0x30")
    assert machine.regs["eflags"] == 0x202


def test_iret_returns_behind_int(machine: Machine) -> None:
    machine.handler(0x30, code="mov ebx, 7; iretd")
    machine.regs["eflags"] = 0x246
    stop = machine.run("int 0x30; hlt")
    assert (stop.kind, stop.rip, machine.regs["rbx"]) == ("hlt", CODE + 3, 7)
    assert (machine.regs["rsp"], machine.regs["eflags"]) == (STACK0, 0x246)


def test_16_bit_gate_pushes_words(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFF, FLAT_CODE))
    machine.handler(0x30, 0x86, selector=FREE, bits=16)
    assert machine.run("int 0x30").kind == "hlt"
    assert machine.stack(3, 2) == [CODE + 2, CODE0, 2]


def test_fault_pushes_the_faulting_eip_rf_and_error_code(machine: Machine) -> None:
    machine.handler(GP)
    machine.regs["rax"] = 0x1234
    machine.run("nop; mov ds, ax")
    assert machine.stack(4, 4) == [0x1234 & ~3, CODE + 1, CODE0, 0x1_0002]


def test_user_int_switches_to_the_tss_stack_and_iret_switches_back(machine: Machine) -> None:
    machine.handler(0x80, INTERRUPT | 0x60, code="mov ax, cs; mov [0x9000], ax; iretd")
    machine.user()
    # HLT at level 3 is the end: #GP without a handler.
    stop = machine.run("int 0x80; hlt")
    assert (stop.kind, stop.vector, stop.rip) == ("exception", GP, CODE + 2)
    assert machine.get(DATA, 2) == CODE0
    frame = machine.stack(5, 4, STACK0 - 0x400 - 20)
    assert frame == [CODE + 2, CODE3, 2, STACK3, DATA3]
    assert (machine.regs["rsp"], machine.regs["cpl"], machine.regs["ss"]) == (STACK3, 3, DATA3)


def test_user_may_not_use_a_privileged_gate(machine: Machine) -> None:
    machine.user()
    machine.handler(0x30)
    machine.regs["idtr.limit"] = 0x31 * 8 - 1
    machine.handler(GP)
    machine.regs["idtr.limit"] = 0x31 * 8 - 1
    machine.run("int 0x30")
    assert machine.stack(2, 4) == [0x30 * 8 + 2, CODE]


def test_int_beyond_the_idt_is_gp_with_the_idt_bit(machine: Machine) -> None:
    machine.handler(GP)
    machine.regs["idtr.limit"] = 14 * 8 - 1
    machine.run("int 0x30")
    assert machine.get(machine.regs["rsp"], 4) == 0x30 * 8 + 2


def test_absent_gate_is_np(machine: Machine) -> None:
    machine.handler(NP)
    machine.handler(0x30, INTERRUPT & 0x7F)
    machine.run("int 0x30")
    assert machine.get(machine.regs["rsp"], 4) == 0x30 * 8 + 2


def test_into_traps_only_on_overflow(machine: Machine) -> None:
    machine.handler(4)
    assert machine.run("xor eax, eax; into; hlt").rip == CODE + 4
    machine.run("mov al, 0x7f; add al, 1; into; hlt")
    assert machine.stack(1, 4) == [CODE + 5]


def test_fault_while_delivering_a_fault_is_a_double_fault(machine: Machine) -> None:
    machine.handler(DF)
    machine.put(IDT + GP * 8, gate(CODE0, 0x6000, INTERRUPT & 0x7F), 8)
    machine.run("mov eax, 0x1234; mov ds, ax")
    assert machine.stack(2, 4) == [0, CODE + 5]


def test_fault_while_delivering_a_double_fault_shuts_down(machine: Machine) -> None:
    machine.handler(DF, INTERRUPT & 0x7F)
    machine.put(IDT + GP * 8, gate(CODE0, 0x6000, INTERRUPT & 0x7F), 8)
    assert machine.run("mov eax, 0x1234; mov ds, ax").kind == "shutdown"


def test_benign_exception_and_fault_are_handled_one_after_the_other(machine: Machine) -> None:
    machine.handler(NP)
    machine.put(IDT + UD * 8, gate(CODE0, 0x6000, INTERRUPT & 0x7F), 8)
    machine.run("ud2")
    assert machine.stack(2, 4) == [UD * 8 + 3, CODE]  # EXT: #UD is no program's INT


def test_bad_inner_stack_is_ts_with_its_selector(machine: Machine) -> None:
    machine.handler(0x80, INTERRUPT | 0x60)
    machine.user()
    machine.put(TSS + 8, DATA3, 2)
    machine.regs["idtr.limit"] = 0x81 * 8 - 1
    machine.define(FREE, descriptor(0, 0xFFFFF, FLAT_CODE | 4, BIG))  # conforming: no switch
    machine.handler(TS, selector=FREE)
    machine.regs["idtr.limit"] = 0x81 * 8 - 1
    stop = machine.run("int 0x80")
    assert stop.vector == GP  # the handler's HLT at level 3
    assert machine.stack(2, 4) == [DATA3 & ~3, CODE]


# Segments --------------------------------------------------------------------------------------

LOADS = {
    "null DS is fine until used": ("xor eax, eax; mov ds, ax; mov al, [0]", GP, 0),
    "null SS": ("xor eax, eax; mov ss, ax", GP, 0),
    "beyond the GDT": ("mov eax, 0x800; mov ds, ax", GP, 0x800),
    "no LDT": ("mov eax, 0x4; mov ds, ax", GP, 4),
    "a TSS": ("mov eax, 0x28; mov ds, ax", GP, TSS_SELECTOR),
    "CS": (".byte 0x8e, 0xc8", UD, None),
    "execute-only code": ("mov eax, 0x48; mov ds, ax", GP, 0x48),
    "not present": ("mov eax, 0x50; mov ds, ax", NP, 0x50),
    "SS not present": ("mov eax, 0x50; mov ss, ax", SS, 0x50),
    "read-only SS": ("mov eax, 0x58; mov ss, ax", GP, 0x58),
    "RPL too high": ("mov eax, 0x13; mov ss, ax", GP, 0x10),
}


@pytest.mark.parametrize("name", LOADS)
def test_segment_load(machine: Machine, name: str) -> None:
    machine.define(0x48, descriptor(0, 0xFFFFF, 0x99, BIG))
    machine.define(0x50, descriptor(0, 0xFFFFF, 0x13, BIG))
    machine.define(0x58, descriptor(0, 0xFFFFF, 0x91, BIG))
    text, vector, error = LOADS[name]
    assert fault(machine, text) == (vector, error)


def test_load_sets_the_accessed_bit(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFFFFF, 0x92, BIG))
    machine.run(f"mov eax, {FREE}; mov es, ax; hlt")
    assert machine.get(GDT + FREE + 5, 1) == 0x93
    assert machine.regs["es"] == FREE


ACCESSES = {
    # base 0x9000, limit 0xf
    "last byte": ("mov al, [0xf]", 0x92, None),
    "one byte too far": ("mov al, [0x10]", 0x92, GP),
    "a word over the end": ("mov ax, [0xf]", 0x92, GP),
    "a doubleword at the end": ("mov eax, [0xc]", 0x92, None),
    "a doubleword over the end": ("mov eax, [0xd]", 0x92, GP),
    "an address that wraps": ("mov al, [0xffffffff]", 0x92, GP),
    "write to read-only": ("mov [0], al", 0x90, GP),
    "read of read-only": ("mov al, [0]", 0x90, None),
    "expand-down: at the limit": ("mov al, [0xf]", 0x96, GP),
    "expand-down: above it": ("mov al, [0x10]", 0x96, None),
    "expand-down: 16 bits wide": ("mov ax, [0xffff]", 0x96, GP),
    "write to code": ("mov [0], al", 0x9A, GP),
    "read of code": ("mov al, [0]", 0x9A, None),
}


@pytest.mark.parametrize("name", ACCESSES)
def test_segment_limit_and_type(machine: Machine, name: str) -> None:
    text, access, vector = ACCESSES[name]
    machine.define(FREE, descriptor(DATA, 0xF, access))
    stop = machine.run(f"mov ecx, {FREE}; mov ds, cx; {text}; hlt")
    assert stop.vector == vector and stop.error_code == (None if vector is None else 0)


def test_stack_overrun_is_ss(machine: Machine) -> None:
    machine.define(FREE, descriptor(DATA, 0xF, 0x92, 4))
    assert fault(machine, f"mov eax, {FREE}; mov ss, ax; mov esp, 2; push eax") == (SS, 0)


def test_segment_override_uses_that_segments_base(machine: Machine) -> None:
    machine.define(FREE, descriptor(DATA, 0xF, 0x92))
    machine.put(DATA + 4, 0x1122_3344, 4)
    machine.run(f"mov eax, {FREE}; mov gs, ax; mov ebx, gs:[4]; hlt")
    assert machine.regs["rbx"] == 0x1122_3344


def test_ldt_selectors_need_lldt(machine: Machine) -> None:
    machine.define(FREE, descriptor(LDT, 0xF, 0x82))
    machine.put(LDT + 8, descriptor(DATA, 0xF, 0x92), 8)
    machine.put(DATA, 0x55, 1)
    machine.run(f"mov eax, {FREE}; lldt ax; mov eax, 0xc; mov ds, ax; mov bl, [0]; sldt cx; hlt")
    assert (machine.regs["bl"], machine.regs["rcx"] & 0xFFFF) == (0x55, FREE)


def test_lds_loads_offset_and_selector(machine: Machine) -> None:
    machine.cpu.write(DATA, (0x1234_5678).to_bytes(4, "little") + DATA0.to_bytes(2, "little"))
    machine.run("xor eax, eax; mov es, ax; les esi, [0x9000]; hlt")
    assert (machine.regs["rsi"], machine.regs["es"]) == (0x1234_5678, DATA0)


# Far transfers ---------------------------------------------------------------------------------


def test_far_jump_changes_cs_and_keeps_cpl(machine: Machine) -> None:
    machine.define(FREE, descriptor(0x100, 0xFFFF, 0x9A, 4))
    machine.code("hlt", CODE + 0x500)
    stop = machine.run(f"ljmp {FREE}, {CODE + 0x400}")
    assert (stop.kind, stop.rip, machine.regs["cs"]) == ("hlt", CODE + 0x401, FREE)


def test_far_jump_beyond_the_limit(machine: Machine) -> None:
    machine.define(FREE, descriptor(0, 0xFF, 0x9A, 4))
    stop = machine.run(f"ljmp {FREE}, 0x100")
    assert (stop.vector, stop.error_code, stop.rip) == (GP, 0, CODE)


@pytest.mark.parametrize(("access", "vector", "error"), [
    (0x92, GP, FREE), (0xFA, GP, FREE), (0x1A, NP, FREE), (0x8B, GP, FREE),
])  # fmt: skip
def test_far_jump_to_a_wrong_descriptor(machine: Machine, access: int, vector: int,
                                        error: int) -> None:  # fmt: skip
    machine.define(FREE, descriptor(0, 0xFFFFF, access, BIG))
    assert fault(machine, f"ljmp {FREE}, 0x100") == (vector, error)


def test_far_call_and_return(machine: Machine) -> None:
    machine.code("mov ebx, 5; retf 8", CODE + 0x100)
    stop = machine.run(f"push 1; push 2; lcall {CODE0}, {CODE + 0x100}; hlt")
    assert (stop.kind, machine.regs["rbx"], machine.regs["rsp"]) == ("hlt", 5, STACK0)


def test_call_gate_copies_parameters_and_retf_returns_to_user(machine: Machine) -> None:
    machine.define(FREE, gate(CODE0, CODE + 0x100, 0xEC, extra=2))
    machine.code("mov ebx, [esp+8]; mov ecx, [esp+12]; mov dx, cs; retf 8", CODE + 0x100)
    machine.user()
    stop = machine.run(f"push 0x11; push 0x22; lcall {FREE | 3}, 0; hlt")
    assert (stop.vector, stop.rip) == (GP, CODE + 11)
    assert (machine.regs["rbx"], machine.regs["rcx"]) == (0x22, 0x11)
    assert (machine.regs["rdx"] & 3, machine.regs["cpl"]) == (0, 3)
    assert (machine.regs["rsp"], machine.regs["ss"]) == (STACK3, DATA3)


def test_call_gate_checks_its_dpl(machine: Machine) -> None:
    machine.define(FREE, gate(CODE0, CODE + 0x100, 0x8C))
    machine.user()
    assert fault(machine, f"lcall {FREE | 3}, 0") == (GP, FREE)


def test_return_to_user_nulls_privileged_data_segments(machine: Machine) -> None:
    text = f"push {DATA3}; push {STACK3}; push {CODE3}; push {CODE + 0x100}; retf"
    machine.code("nop; hlt", CODE + 0x100)
    machine.run(text)
    assert machine.regs["cpl"] == 3
    assert [machine.regs[n] for n in ("ds", "es", "fs", "gs")] == [0, 0, 0, 0]


def test_return_to_user_takes_the_rpl_of_null_selectors(machine: Machine) -> None:
    """SDM vol. 2A, IRET: "IF (SegmentSelector = NULL) OR …"."""
    machine.define(FREE, descriptor(0x1000, 0xFFFFF, FLAT_DATA | 0x60, BIG))
    machine.code("nop; hlt", CODE + 0x100)
    machine.run(f"mov eax, 3; mov ds, eax; mov es, eax; mov gs, eax; mov eax, {FREE | 3};"
                f" mov fs, eax; push {DATA3}; push {STACK3}; push 2; push {CODE3};"
                f" push {CODE + 0x100}; iretd")  # fmt: skip
    assert [machine.regs[n] for n in ("ds", "es", "fs", "gs")] == [0, 0, FREE | 3, 0]
    assert machine.regs["fs.base"] == 0x1000


def test_return_to_an_inner_level_is_gp(machine: Machine) -> None:
    machine.user()
    assert fault(machine, f"push {CODE0}; push {CODE}; retf") == (GP, CODE0)


# Privileges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "hlt", "cli", "sti", "in al, 0x20", "out 0x20, al", "mov eax, cr0", "mov cr3, eax", "clts",
    "lgdt [0x9000]", "lidt [0x9000]", "invlpg [0]", "wbinvd", "invd", "mov eax, dr7", "rdmsr",
    "wrmsr", "lldt ax", "ltr ax", "lmsw ax",
])  # fmt: skip
def test_privileged_at_level_3(machine: Machine, text: str) -> None:
    machine.user()
    stop = machine.run(text)
    assert (stop.kind, stop.vector, stop.error_code, stop.rip) == ("exception", GP, 0, CODE)


def test_iopl_3_lets_user_code_do_io_and_cli(machine: Machine) -> None:
    machine.user()
    machine.regs["eflags"] = 0x3202
    stop = machine.run("in al, 0x20; cli; out dx, eax; ud2")
    assert (stop.vector, machine.regs["eflags"]) == (UD, 0x3002)


def test_io_permission_bitmap(machine: Machine) -> None:
    machine.regs["tr.limit"] = 0xFF
    machine.put(TSS + 0x68, (1 << 0x21), 8)
    machine.cpu.write(TSS + 0x70, b"\xff" * 0x20)
    machine.user()
    assert machine.run("in al, 0x20; ud2").vector == UD
    assert machine.run("in al, 0x21; ud2").vector == GP
    assert machine.run("in ax, 0x20; ud2").vector == GP
    assert machine.run("in ax, 0x22; ud2").vector == UD
    assert machine.run("mov dx, 0x1000; in al, dx; ud2").vector == GP


def test_popf_at_level_3_changes_neither_if_nor_iopl(machine: Machine) -> None:
    machine.user()
    machine.run("push 0x3ad7; popfd; ud2")
    assert machine.regs["eflags"] == 0x0AD7 & ~0x200


# Asking about selectors ------------------------------------------------------------------------


def test_lar_lsl_verr_verw(machine: Machine) -> None:
    machine.define(FREE, descriptor(0x12_0000, 0xFFFFF, 0x91, BIG))
    machine.run(f"mov ecx, {FREE}; lar eax, ecx; setz bl; lsl edx, ecx; verr cx; setz bh; verw cx;"
                " setz cl; hlt")  # fmt: skip
    assert machine.regs["rax"] == 0x00C0_9100
    assert machine.regs["rdx"] == 0xFFFF_FFFF
    assert (machine.regs["bl"], machine.regs["bh"], machine.regs["cl"]) == (1, 1, 0)


def test_lar_of_nothing_clears_zf_and_keeps_the_register(machine: Machine) -> None:
    machine.run("mov eax, 5; xor ecx, ecx; lar eax, ecx; setz bl; hlt")
    assert (machine.regs["rax"], machine.regs["bl"]) == (5, 0)


def test_arpl(machine: Machine) -> None:
    machine.run("mov eax, 0x10; mov ecx, 3; arpl ax, cx; setz bl; arpl ax, cx; setz bh; hlt")
    assert (machine.regs["rax"], machine.regs["bl"], machine.regs["bh"]) == (0x13, 1, 0)


# System registers ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0x8000_0010, 0x2000_0011])
def test_impossible_cr0(machine: Machine, value: int) -> None:
    assert fault(machine, f"mov eax, {value}; mov cr0, eax") == (GP, 0)


def test_reserved_cr4_bits(machine: Machine) -> None:
    assert fault(machine, "mov eax, 0x80000000; mov cr4, eax") == (GP, 0)


def test_unknown_control_register(machine: Machine) -> None:
    assert fault(machine, ".byte 0x0f, 0x20, 0xc8") == (UD, None)


def test_lmsw_sets_but_never_clears_pe(machine: Machine) -> None:
    machine.run("mov ax, 0xe; lmsw ax; smsw ebx; clts; smsw ecx; hlt")
    assert (machine.regs["rbx"] & 0xF, machine.regs["rcx"] & 0xF) == (0xF, 7)


def test_sgdt_and_lgdt(machine: Machine) -> None:
    machine.run("sgdt [0x9000]; lidt [0x9000]; sidt [0x9010]; hlt")
    assert machine.get(DATA, 6) == 0x7FF | GDT << 16 == machine.get(DATA + 0x10, 6)


def test_ltr_makes_the_tss_busy_and_refuses_a_busy_one(machine: Machine) -> None:
    assert fault(machine, "mov eax, 0x28; ltr ax; str bx; ltr ax") == (GP, TSS_SELECTOR)
    assert (machine.get(GDT + TSS_SELECTOR + 5, 1), machine.regs["bx"]) == (0x8B, TSS_SELECTOR)


def test_debug_registers_have_fixed_bits(machine: Machine) -> None:
    machine.run("xor eax, eax; mov dr7, eax; mov dr6, eax; mov ebx, dr7; mov ecx, dr6; hlt")
    assert (machine.regs["rbx"], machine.regs["rcx"]) == (0x400, 0xFFFF_0FF0)


def test_code_segment_data_is_readable_through_cs(machine: Machine) -> None:
    machine.put(DATA, 0x77, 1)
    machine.run("mov al, cs:[0x9000]; hlt")
    assert machine.regs["al"] == 0x77
    assert fault(machine, "mov cs:[0x9000], al") == (GP, 0)
