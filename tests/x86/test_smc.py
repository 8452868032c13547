"""Code that changes code: what a store has changed is what runs next."""

from __future__ import annotations

import threading

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
from x86.protection import RW, Machine, P

PAGE = 0x1000
CODE, OTHER, STACK = 0x1000, 0x4000, 0x7F00
INC, DEC, NOP = 0x40, 0x48, 0x90  # in 32-bit code, of EAX
ENGINES = pytest.mark.parametrize("engine", ["threaded", "jit", "python"])


def processor(engine: str, mode: str = "protected") -> Cpu:
    cpu = Cpu(mode=mode, engine=engine)
    cpu.map(0, 8 * PAGE)
    cpu.regs["rsp"] = STACK
    return cpu


def run(cpu: Cpu, text: str, at: int = CODE, *, insns: int = 10_000) -> Stop:
    """32-bit code at an address, to its HLT."""
    cpu.write(at, assemble(text, 32))
    stop = cpu.run(at, max_insns=insns)
    assert stop.kind == "hlt", stop
    return stop


@ENGINES
def test_a_store_into_the_next_instruction(engine: str) -> None:
    cpu = processor(engine)
    run(cpu, f"xor eax, eax; mov byte ptr [{CODE + 9}], {INC}; nop; hlt")
    assert cpu.regs["eax"] == 1


@ENGINES
def test_a_store_into_a_later_instruction_of_the_running_block(engine: str) -> None:
    cpu = processor(engine)
    run(cpu, f"xor eax, eax; mov byte ptr [{CODE + 12}], {INC}; "
             "inc ebx; inc ebx; inc ebx; nop; hlt")  # fmt: skip
    assert (cpu.regs["eax"], cpu.regs["ebx"]) == (1, 3)


@ENGINES
def test_a_store_into_an_earlier_instruction_of_the_running_block(engine: str) -> None:
    cpu = processor(engine)
    run(cpu, f"1: nop; inc ecx; mov byte ptr [{CODE}], {INC}; cmp ecx, 2; jb 1b; hlt")
    assert (cpu.regs["eax"], cpu.regs["ecx"]) == (1, 2)


@ENGINES
def test_a_store_into_itself_takes_effect_the_next_time(engine: str) -> None:
    cpu = processor(engine)
    run(cpu, f"mov ecx, 2; 1: mov byte ptr [{CODE + 11}], 7; mov al, [{CODE + 11}]; dec ecx; "
             "jnz 1b; hlt")  # fmt: skip
    assert cpu.regs["al"] == 7


@ENGINES
def test_a_call_whose_return_address_overwrites_the_code_after_it(engine: str) -> None:
    cpu = processor(engine)
    cpu.regs["esp"] = CODE + 9
    cpu.write(CODE, assemble("xor eax, eax; call 1f; nop; nop; nop; nop; hlt; 1: hlt", 32))
    stop = cpu.run(CODE, max_insns=10)
    assert (stop.kind, stop.rip) == ("hlt", CODE + 13)
    assert cpu.read(CODE + 5, 4) == (CODE + 7).to_bytes(4, "little")


@ENGINES
def test_a_loop_that_patches_itself_each_time(engine: str) -> None:
    rounds = 300 if engine == "threaded" else 30
    cpu = processor(engine)
    run(cpu, f"""
        mov ecx, {rounds}; xor ebx, ebx
        1: mov [{CODE + 14}], ecx
        mov eax, 0
        add ebx, eax
        dec ecx
        jnz 1b
        hlt
    """)
    assert cpu.regs["ebx"] == rounds * (rounds + 1) // 2


def test_a_loop_that_patches_itself_very_often_leaves_no_dead_blocks_behind() -> None:
    cpu = processor("threaded")
    run(cpu, f"mov ecx, 100000; 1: mov [{CODE + 12}], ecx; mov eax, 0; dec ecx; jnz 1b; hlt",
        insns=1_000_000)  # fmt: skip
    assert cpu.regs["eax"] == 1


@ENGINES
def test_a_store_across_a_page_boundary_into_both_pages_code(engine: str) -> None:
    cpu = processor(engine)
    edge = CODE + PAGE
    cpu.write(edge - 2, bytes([NOP, NOP, NOP, NOP, 0xC3]))
    run(cpu, f"mov esi, {edge - 2}; xor eax, eax; call esi; "
             f"mov dword ptr [{edge - 2}], 0x{INC:x}{INC:x}{INC:x}{INC:x}; "
             "call esi; hlt")  # fmt: skip
    assert cpu.regs["eax"] == 4


@ENGINES
@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_an_instruction_on_two_pages_whose_second_part_changes(engine: str, before: int) -> None:
    cpu = processor(engine)
    edge = CODE + PAGE
    cpu.write(edge - before, assemble("mov eax, 0x11111111; ret", 32))
    run(cpu, f"mov esi, {edge - before}; call esi; mov ebx, eax; "
             f"mov byte ptr [{edge + 4 - before}], 0x22; call esi; hlt")  # fmt: skip
    assert (cpu.regs["ebx"], cpu.regs["eax"]) == (0x1111_1111, 0x2211_1111)


@ENGINES
def test_an_instruction_on_two_pages_whose_first_part_changes(engine: str) -> None:
    cpu = processor(engine)
    edge = CODE + PAGE
    cpu.write(edge - 2, assemble("mov eax, 0x11111111; ret", 32))
    run(cpu, f"mov esi, {edge - 2}; call esi; mov ebx, eax; "
             f"mov byte ptr [{edge - 1}], 0x22; call esi; hlt")  # fmt: skip
    assert (cpu.regs["ebx"], cpu.regs["eax"]) == (0x1111_1111, 0x1111_1122)


@ENGINES
@pytest.mark.parametrize("string", ["rep movsb", "rep movsd", "std; rep movsb", "rep stosb"])
def test_string_instructions_over_code(engine: str, string: str) -> None:
    cpu = processor(engine)
    cpu.write(OTHER, bytes([NOP] * 8 + [0xC3]))
    cpu.write(OTHER + 0x100, bytes([INC] * 8 + [0xC3]))
    last = 7 if "std" in string else 0
    count = 2 if "movsd" in string else 8
    run(cpu, f"mov ebx, {OTHER}; call ebx; mov esi, {OTHER + 0x100 + last}; "
             f"mov edi, {OTHER + last}; mov ecx, {count}; mov al, {INC}; {string}; cld; "
             "xor eax, eax; call ebx; hlt")  # fmt: skip
    assert cpu.regs["eax"] == 8


@ENGINES
def test_rep_movs_over_the_instructions_after_it(engine: str) -> None:
    cpu = processor(engine)
    cpu.write(OTHER, bytes([INC] * 6))
    run(cpu, f"xor eax, eax; mov esi, {OTHER}; mov edi, {CODE + 19}; mov ecx, 6; rep movsb; "
             "nop; nop; nop; nop; nop; nop; hlt")  # fmt: skip
    assert cpu.regs["eax"] == 6


@ENGINES
@pytest.mark.parametrize("store", [
    "movaps [ebx], xmm0", "movups [ebx], xmm0", "mov dword ptr [ebx], 0x40404040",
    "xor dword ptr [ebx], 0xd0d0d0d0", "lock xor dword ptr [ebx], 0xd0d0d0d0",
    "xchg [ebx], edx", "lea esp, [ebx + 4]; push edx", "mov [ebx], dx; mov [ebx + 2], dx",
    "fistp dword ptr [ebx]", "movd [ebx], xmm0", "pop dword ptr [ebx]",
])  # fmt: skip
def test_every_kind_of_store_is_seen(engine: str, store: str) -> None:
    cpu = processor(engine)
    cpu.write(OTHER, bytes([NOP] * 4 + [0xC3]))
    cpu.write(OTHER + 0x10, bytes([INC] * 16))
    text = (f"mov ebx, {OTHER}; call ebx; fild dword ptr [{OTHER + 0x10}]; mov edx, 0x40404040; "
            f"movups xmm0, [{OTHER + 0x10}]; push edx; {store}; mov esp, {STACK}; "
            f"mov byte ptr [ebx + 4], 0xc3; xor eax, eax; call ebx; hlt")  # fmt: skip
    run(cpu, text)
    assert cpu.regs["eax"] == 4


@ENGINES
def test_code_written_by_the_host_between_runs(engine: str) -> None:
    cpu = processor(engine)
    for value in (1, 2, 3):
        run(cpu, f"mov eax, {value}; hlt")
        assert cpu.regs["eax"] == value
    cpu.write(CODE + 1, b"\x09")
    assert cpu.run(CODE, max_insns=10).kind == "hlt"
    assert cpu.regs["eax"] == 9


@ENGINES
def test_a_budget_that_ends_within_the_block_that_changes(engine: str) -> None:
    cpu = processor(engine)
    cpu.write(CODE, assemble(f"mov byte ptr [{CODE + 8}], {INC}; nop; nop; nop; nop; hlt", 32))
    assert cpu.run(CODE, max_insns=3).kind == "limit"
    assert cpu.regs["eax"] == 1


def long_machine(engine: str) -> tuple[Machine, int]:
    """4-level paging, and the table whose entries a test may change."""
    machine = Machine("long", engine)
    return machine, machine.map_long()


ALIAS, VIEW = 0x18_0000, 0x2_0000


@ENGINES
def test_a_store_through_an_alias(engine: str) -> None:
    machine, table = long_machine(engine)
    machine.put(table + (ALIAS >> 12) * 8, VIEW | P | RW, 8)
    machine.code("inc eax; nop; nop; ret", VIEW)
    stop = machine.run(f"""
        xor eax, eax; mov rbx, {VIEW}; mov rdi, {ALIAS}; mov dword ptr [rdi + 16], 0
        call rbx; call rbx
        mov word ptr [rdi + 2], 0xc0ff
        call rbx; hlt
    """)
    assert (stop.kind, machine.regs["eax"]) == ("hlt", 4)


@ENGINES
def test_code_run_through_one_alias_and_changed_through_the_other(engine: str) -> None:
    machine, table = long_machine(engine)
    machine.put(table + (ALIAS >> 12) * 8, VIEW | P | RW, 8)
    machine.code("inc eax; nop; nop; ret", VIEW)
    stop = machine.run(f"""
        xor eax, eax; mov rbx, {VIEW}; mov rdi, {ALIAS}; mov dword ptr [rbx + 16], 0
        call rdi; call rbx
        mov word ptr [rbx + 2], 0xc0ff
        call rdi; call rbx; hlt
    """)
    assert (stop.kind, machine.regs["eax"]) == ("hlt", 6)


@ENGINES
def test_an_instruction_on_two_pages_whose_second_page_is_mapped_elsewhere(engine: str) -> None:
    machine, table = long_machine(engine)
    second = VIEW + PAGE
    machine.code("mov eax, 0x11111111; ret", second - 2)
    machine.cpu.write(VIEW + 4 * PAGE, bytes.fromhex("222222c3"))
    stop = machine.run(f"""
        mov rbx, {second - 2}; call rbx; mov ecx, eax
        mov rdi, {table + (second >> 12) * 8}; mov qword ptr [rdi], {VIEW + 4 * PAGE | P | RW}
        invlpg [{second}]
        call rbx; hlt
    """)
    assert (stop.kind, machine.regs["ecx"]) == ("hlt", 0x1111_1111)
    assert machine.regs["eax"] == 0x2222_2211


# A vCPU, and memory that others write ----------------------------------------------------------


def vcpu(engine: str, text: str) -> tuple[Vcpu, AddressMap, FakeBus]:
    """A vCPU in real mode about to run ``text`` at 0:1000."""
    memory = AddressMap(RamWindow(1 << 20))
    memory.add_ram(0, 1 << 20, 0)
    bus = FakeBus()
    made = make_vcpu(memory, bus, model="max", tier=engine, log=Log())
    memory.write(CODE, assemble(text, 16))
    made.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
    made.regs["rip"], made.regs["rsp"] = CODE, STACK
    return made, memory, bus


@ENGINES
def test_a_device_that_writes_code_while_the_processor_waits(engine: str) -> None:
    routine, handler = 0x1100, 0x1200
    cpu, memory, bus = vcpu(engine, f"mov bx, {routine}; 1: call bx; sti; hlt; cli; jmp 1b")
    memory.write(routine, assemble("mov al, 1; out 0x80, al; ret", 16))
    memory.write(handler, b"\xcf")
    memory.write(0x20 * 4, handler.to_bytes(4, "little"))

    def device() -> None:
        if bus.written[-1][2] == 3:
            cpu.request_exit()
            return
        memory.write(routine + 1, bytes([bus.written[-1][2] + 1]))
        bus.vectors.append(0x20)
        cpu.set_intr(True)

    bus.on_write = lambda port, value: threading.Timer(0.02, device).start()
    bus.acknowledged = lambda: cpu.set_intr(False)
    assert cpu.run() is ExitReason.REQUESTED
    assert [value for _, _, value in bus.written] == [1, 2, 3]


@ENGINES
def test_a_device_that_writes_code_from_within_a_port_write(engine: str) -> None:
    cpu, memory, bus = vcpu(engine, "start: mov al, 1; out 0x80, al; nop; jmp start")

    def device(port: int, value: int) -> None:
        if value == 4:
            cpu.request_exit()
        memory.write(CODE + 1, bytes([value + 1]))

    bus.on_write = device
    assert cpu.run() is ExitReason.REQUESTED
    assert [value for _, _, value in bus.written][:4] == [1, 2, 3, 4]


@ENGINES
def test_the_next_instruction_is_what_a_device_made_of_it(engine: str) -> None:
    """A bus master is as quick as the store that set it off."""
    cpu, memory, bus = vcpu(engine, "mov cx, 3; 1: mov al, 1; out 0x80, al; mov bl, 7;"
                                    " mov al, bl; out 0x81, al; loop 1b; mov al, 9; out 0x80, al;"
                                    " 2: jmp 2b")  # fmt: skip
    at = CODE + 3 + 2 + 2 + 1  # the immediate of mov bl
    found: list[int] = []

    def device(port: int, value: int) -> None:
        if port == 0x81:
            found.append(value)
        elif value == 9:
            cpu.request_exit()
        else:
            memory.store(at, bytes([0x40 + len(found)]))

    bus.on_write = device
    assert cpu.run() is ExitReason.REQUESTED
    assert found == [0x40, 0x41, 0x42]


@ENGINES
@pytest.mark.parametrize("at", [58, 60, 62, 64])
def test_a_store_beside_and_across_a_line_of_64_bytes(engine: str, at: int) -> None:
    cpu = processor(engine)
    far = CODE + 0x400
    cpu.write(far, bytes([NOP] * 68 + [INC, 0xC3]))
    cpu.write(far + 0x200, bytes([INC, 0xC3]))
    run(cpu, f"""
        xor eax, eax; mov ecx, 2
        1: mov edx, {far}; call edx; mov edx, {far + 0x200}; call edx
        mov dword ptr [{far + at}], {INC * 0x01010101:#x}
        dec ecx
        jnz 1b
        hlt
    """)  # fmt: skip
    assert cpu.regs["eax"] == 2 + 4 + 2
