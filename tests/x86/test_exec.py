"""Running: exact budgets, single steps, stop addresses, chaining, traps and interrupts."""

from __future__ import annotations

import random
import threading
import time

import pytest

from pytcg import Cpu, Stop
from pytcg.engines import make_vcpu
from pytcg.exec.bus import ExitReason
from pytcg.exec.vcpu import Vcpu
from pytcg.log import Log
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow
from x86.assemble import assemble
from x86.fake_bus import FakeBus
from x86.protection import CODE, RW, US, Machine, P

PAGE = 0x1000
DATA, STACK = 0x4000, 0x7F00
NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "rip", "eflags")
TF = 0x100
ENGINES = pytest.mark.parametrize("engine", ["threaded", "jit", "python"])

# Branches both ways, calls, REP, a loop, and #DE with a handler that skips the division.
PROGRAM = """
    mov esi, {data}; mov edi, {data} + 0x100; mov ecx, 5; rep movsd
    mov ecx, 3
1:  inc eax; test al, 1; jz 2f; add ebx, eax; call 3f
2:  loop 1b
    xor ecx, ecx; xor edx, edx; mov eax, 7
    div ecx
    push eax; pop ebp; cmp ebp, 7; jne 4f
    mov ecx, 0; rep stosb
    jmp 4f
3:  add edx, 2; ret
4:  hlt
"""
HANDLER = "add dword ptr [esp], 2; iretd"  # past DIV ECX


def machine(engine: str) -> Machine:
    made = Machine("protected", engine)
    made.handler(0, code=HANDLER)
    made.code(PROGRAM.format(data=DATA))
    made.regs["rip"] = CODE
    return made


def state(cpu: Cpu) -> list[int]:
    return [cpu.regs[name] for name in NAMES]


def steps(made: Machine) -> list[list[int]]:
    """The state after each single instruction up to the HLT."""
    states = [state(made.cpu)]
    while made.cpu.run(max_insns=1).kind == "limit":
        states.append(state(made.cpu))
        assert len(states) < 1000
    return states


@ENGINES
def test_every_budget_is_exact_and_agrees_with_single_steps(engine: str) -> None:
    reference = machine(engine)
    states = steps(reference)
    assert (len(states), reference.regs["ebp"]) == (reference.cpu.instructions, 7)
    for budget in range(1, len(states)):
        made = machine(engine)
        assert made.cpu.run(max_insns=budget).kind == "limit"
        assert (state(made.cpu), made.cpu.instructions) == (states[budget], budget)


@ENGINES
def test_a_budget_in_parts_of_any_size_comes_to_the_same(engine: str) -> None:
    states = steps(machine(engine))
    for part in (2, 3, 5, 7):
        made = machine(engine)
        for done in range(part, len(states), part):
            assert made.cpu.run(max_insns=part).kind == "limit"
            assert state(made.cpu) == states[done]


def random_program(rng: random.Random) -> str:
    """Straight and branching code on EAX…EDX and a little memory, ending in HLT."""
    registers = ("eax", "ecx", "edx", "ebx")
    lines = []
    for number in range(40):
        a, b = rng.choice(registers), rng.choice(registers)
        lines.append(f"l{number}:")
        lines.append(rng.choice([
            f"add {a}, {b}", f"sub {a}, {rng.randrange(256)}", f"xor {a}, {b}", f"imul {a}, {b}",
            f"mov [{DATA + 4 * rng.randrange(8)}], {a}",
            f"adc {a}, [{DATA + 4 * rng.randrange(8)}]",
            f"cmp {a}, {b}; j{rng.choice(('z', 'c', 'l', 's', 'o', 'p'))} "
            f"l{rng.randrange(number + 1, 42)}",
            f"push {a}; pop {b}", f"shl {a}, {rng.randrange(32)}", f"dec {a}; jnz 1f; inc {b}; 1:",
        ]))  # fmt: skip
    return "\n".join([*lines, "l40: nop", "l41: hlt"])


@ENGINES
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_step_by_step_and_whole(engine: str, seed: int) -> None:
    rng = random.Random(seed)
    code = assemble(random_program(rng), 32)
    values = [rng.getrandbits(32) for _ in range(4)]

    def fresh() -> Cpu:
        cpu = Cpu("protected", engine)
        cpu.map(0, 8 * PAGE)
        cpu.write(PAGE, code)
        for name, value in zip(("eax", "ecx", "edx", "ebx"), values, strict=True):
            cpu.regs[name] = value
        cpu.regs["rsp"], cpu.regs["rip"] = STACK, PAGE
        return cpu

    stepped = fresh()
    count = 0
    while stepped.run(max_insns=1).kind == "limit":
        count += 1
        if count % 9 == 0:
            whole = fresh()
            assert whole.run(max_insns=count).kind == "limit"
            assert state(whole) == state(stepped)
            assert whole.read(DATA, 32) == stepped.read(DATA, 32)
    whole = fresh()
    assert whole.run().kind == "hlt"
    assert state(whole) == state(stepped)


@ENGINES
def test_a_fetch_fault_belongs_to_the_instruction_after_the_jump(engine: str) -> None:
    cpu = Cpu("protected", engine)
    cpu.map(0, 2 * PAGE)
    cpu.write(PAGE, assemble("mov eax, 0x9000; jmp eax", 32))
    assert cpu.run(PAGE, max_insns=2) == Stop("limit", 0x9000)
    stop = cpu.run(max_insns=1)
    assert (stop.kind, stop.vector, stop.rip, stop.address) == ("exception", 14, 0x9000, 0x9000)


@ENGINES
def test_a_handler_that_can_not_be_fetched_uses_up_the_budget(engine: str) -> None:
    made = Machine("long", engine)
    table = made.map_long()
    at = made.handler(14, ist=1)
    made.put(table + (at >> 12) * 8, 0, 8)
    made.put(table + (0x1F_0000 >> 12) * 8, 0, 8)
    assert made.run("mov al, [0x1f0000]", insns=50).kind == "limit"


@ENGINES
@pytest.mark.parametrize("offset", [0, 5, 6, 8])
def test_until_stops_before_the_address(engine: str, offset: int) -> None:
    cpu = Cpu("protected", engine)
    cpu.map(0, 2 * PAGE)
    cpu.write(PAGE, assemble("mov ecx, 3; 1: dec ecx; jnz 1b; hlt", 32))
    stop = cpu.run(PAGE, PAGE + offset)
    assert stop == Stop("until", PAGE + offset)
    assert cpu.instructions == {0: 0, 5: 1, 6: 2, 8: 7}[offset]
    assert cpu.run(PAGE).kind == "hlt"


@ENGINES
def test_chains_across_pages_and_far_jumps_within_one(engine: str) -> None:
    cpu = Cpu("protected", engine)
    cpu.map(0, 8 * PAGE)
    cpu.write(PAGE, assemble(".fill 0xff0, 1, 0x90; mov ecx, 5; 1: inc eax; mov edx, ecx; "
                             "inc ebx; mov esi, ecx; lea edi, [eax + ebx]; dec ecx; "
                             "jnz 1b; hlt", 32))  # fmt: skip
    assert cpu.run(PAGE + 0xFF0).kind == "hlt"
    assert (cpu.regs["eax"], cpu.regs["ebx"], cpu.regs["edi"]) == (5, 5, 10)


@ENGINES
def test_a_page_mapped_elsewhere_runs_its_new_code(engine: str) -> None:
    made = Machine("long", engine)
    table = made.map_long()
    view, first, second = 0x18_0000, 0x2_0000, 0x2_1000
    made.put(table + (view >> 12) * 8, first | P | RW | US, 8)
    made.code("mov eax, 1; ret", first)
    made.code("mov eax, 2; ret", second)
    stop = made.run(f"""
        mov rbx, {view}; mov rdi, {table + (view >> 12) * 8}
        call rbx; mov r8d, eax
        mov qword ptr [rdi], {second | P | RW | US}; invlpg [rbx]; call rbx; mov r9d, eax
        mov qword ptr [rdi], {first | P | RW | US}; mov rax, cr3; mov cr3, rax; call rbx; hlt
    """)
    assert stop.kind == "hlt"
    assert [made.regs[name] for name in ("r8", "r9", "rax")] == [1, 2, 1]


@ENGINES
def test_cr3_set_by_the_host_between_runs_is_seen(engine: str) -> None:
    made = Machine("long", engine)
    table = made.map_long()
    made.code("mov eax, 1; hlt", 0x2_0000)
    made.code("mov eax, 2; hlt", 0x2_1000)
    copy = 0x11_0000
    made.cpu.write(copy, made.cpu.read(table - 0x3000, 0x4000))
    for level in range(3):
        made.put(copy + level * PAGE, (copy + (level + 1) * PAGE) | P | RW | US, 8)
    made.put(copy + 0x3000 + 0x20 * 8, 0x2_1000 | P | RW, 8)
    assert (made.run(start=0x2_0000).kind, made.regs["eax"]) == ("hlt", 1)
    made.regs["cr3"] = copy
    assert (made.run(start=0x2_0000).kind, made.regs["eax"]) == ("hlt", 2)


# Traps -----------------------------------------------------------------------------------------

TRACE = "push eax; mov eax, [0x9000]; inc eax; mov [0x9000], eax; pop eax; iretd"


@ENGINES
@pytest.mark.parametrize("part", [1, 2, 1000])
def test_a_trap_after_every_instruction_with_tf(engine: str, part: int) -> None:
    made = Machine("protected", engine)
    made.handler(1, code=TRACE)
    made.code("pushfd; or dword ptr [esp], 0x100; popfd; nop; inc ebx; inc ebx; "
              "pushfd; and dword ptr [esp], 0xfffffeff; popfd; nop; hlt")  # fmt: skip
    made.regs["rip"] = CODE
    while made.cpu.run(max_insns=part).kind == "limit":
        assert made.cpu.instructions < 200
    assert (made.get(0x9000, 4), made.regs["ebx"]) == (6, 2)


@ENGINES
def test_a_trap_after_a_store_into_its_own_instruction(engine: str) -> None:
    made = Machine("protected", engine)
    made.handler(1, code=TRACE)
    made.code(f"mov byte ptr [{CODE}], 0x90; nop; hlt")
    made.regs["eflags"] = TF | 2
    made.cpu.run(CODE, max_insns=1)
    made.cpu.run(max_insns=1)
    assert made.get(0x9000, 4) == 0 and made.regs["rip"] in range(0x6010, 0x6020)


@ENGINES
def test_no_trap_is_left_over_from_a_fault(engine: str) -> None:
    made = Machine("protected", engine)
    made.handler(1, code=TRACE)
    made.regs["eflags"] = TF | 2
    assert made.run("ud2; nop; hlt").vector == 6
    made.regs["eflags"] = 2
    assert (made.cpu.run(CODE + 2).kind, made.get(0x9000, 4)) == ("hlt", 0)


# Interrupts ------------------------------------------------------------------------------------

HANDLER_AT = 0x1800


def vcpu(engine: str, text: str, handler: str = "inc bx; iret") -> tuple[Vcpu, FakeBus]:
    """A vCPU in real mode about to run ``text``; vector 20h and NMI go to ``handler``."""
    memory = AddressMap(RamWindow(1 << 20))
    memory.add_ram(0, 1 << 20, 0)
    bus = FakeBus()
    made = make_vcpu(memory, bus, model="max", tier=engine, log=Log())
    memory.write(PAGE, assemble(text, 16))
    memory.write(HANDLER_AT, assemble(handler.replace("iret", ".byte 0xcf"), 16))
    for vector in (2, 16, 0x20):
        memory.write(vector * 4, HANDLER_AT.to_bytes(4, "little"))
    made.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
    made.regs["rip"], made.regs["rsp"] = PAGE, STACK
    bus.acknowledged = lambda: made.set_intr(bool(bus.vectors))
    bus.on_write = lambda port, value: made.request_exit()
    return made, bus


@ENGINES
def test_an_interrupt_waits_for_sti_and_its_shadow(engine: str) -> None:
    cpu, bus = vcpu(engine, "mov cx, bx; nop; sti; mov dx, bx; mov si, bx; out 0x80, al; 9: jmp 9b")
    bus.vectors.append(0x20)
    cpu.set_intr(True)
    assert cpu.run() is ExitReason.REQUESTED
    assert [cpu.regs[name] for name in ("cx", "dx", "si", "bx")] == [0, 0, 1, 1]


@ENGINES
def test_an_interrupt_waits_for_the_shadow_of_mov_ss(engine: str) -> None:
    cpu, bus = vcpu(engine, "sti; mov ss, cx; mov dx, bx; mov si, bx; out 0x80, al; 9: jmp 9b")
    bus.vectors.append(0x20)
    cpu.set_intr(True)
    assert cpu.run() is ExitReason.REQUESTED
    assert [cpu.regs[name] for name in ("dx", "si", "bx")] == [0, 1, 1]


@ENGINES
def test_several_interrupts_one_after_the_other(engine: str) -> None:
    cpu, bus = vcpu(engine, "sti; 1: cmp bx, 3; jb 1b; out 0x80, al; 9: jmp 9b")
    bus.vectors += [0x20, 0x20, 0x20]
    cpu.set_intr(True)
    assert cpu.run() is ExitReason.REQUESTED
    assert (cpu.regs["bx"], bus.vectors) == (3, [])


@ENGINES
def test_an_nmi_comes_with_if_clear_and_ends_hlt(engine: str) -> None:
    cpu, _ = vcpu(engine, "cli; hlt; mov dx, bx; out 0x80, al; 9: jmp 9b")
    end = time.monotonic() + 60

    def raise_it_once_halted() -> None:
        while not cpu._cpu.state.get("halted") and time.monotonic() < end:
            time.sleep(0.005)
        cpu.raise_nmi()

    threading.Thread(target=raise_it_once_halted).start()
    assert cpu.run() is ExitReason.REQUESTED
    assert cpu.regs["dx"] == 1


@ENGINES
def test_a_spurious_interrupt_leaves_the_guest_alone(engine: str) -> None:
    cpu, bus = vcpu(engine, "sti; nop; nop; out 0x80, al; 9: jmp 9b")
    cpu.set_intr(True)
    assert cpu.run() is ExitReason.REQUESTED
    assert (cpu.regs["bx"], bus.vectors) == (0, [])


@ENGINES
@pytest.mark.parametrize("text", ["1: jmp 1b", "cli; hlt", "sti; hlt", "cli; 1: hlt; jmp 1b"])
def test_a_request_ends_the_run_whatever_the_guest_does(engine: str, text: str) -> None:
    cpu, _ = vcpu(engine, text)
    threading.Timer(0.05, cpu.request_exit).start()
    assert cpu.run() is ExitReason.REQUESTED


@ENGINES
def test_hlt_with_interrupts_off_sleeps_through_a_pending_one(engine: str) -> None:
    cpu, bus = vcpu(engine, "cli; hlt")
    bus.vectors.append(0x20)
    cpu.set_intr(True)
    threading.Timer(0.05, cpu.request_exit).start()
    assert cpu.run() is ExitReason.REQUESTED
    assert (cpu.regs["bx"], bus.vectors) == (0, [0x20])


@ENGINES
def test_a_request_gets_through_while_no_handler_can_be_fetched(engine: str) -> None:
    """Real mode, #UD forever: the handler is itself an undefined instruction."""
    cpu, _ = vcpu(engine, "ud2")
    threading.Timer(0.1, cpu.request_exit).start()
    assert cpu.run() is ExitReason.REQUESTED


@ENGINES
def test_x87_exceptions_are_ferr_while_cr0_ne_is_clear(engine: str) -> None:
    """Once for each, by the next instruction that waits; FNCLEX ends it (SDM vol. 1, D.2)."""
    divide = "fninit; mov word ptr [0x2000], 0x37b; fldcw [0x2000]; fld1; fldz; fdivp st(1), st"
    again = "fnop; fnop; fwait; fnclex; fdivp st(1), st; fwait"
    for control, wanted in ((0x10, 2), (0x30, 0)):
        cpu, bus = vcpu(engine, f"{divide}; {again}; out 0x80, al; 9: jmp 9b", "out 0x80, al; iret")
        cpu.regs["cr0"] = control
        assert cpu.run() is ExitReason.REQUESTED
        assert bus.fpu_errors == wanted
