"""Hooks: what they see, what they may change, and that they are not there when they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytcg import SKIP, Cpu
from pytcg.errors import HookError
from pytcg.exec.layout import FORM
from pytcg.library.stop import Stop
from pytcg_native import load64, native, ptr, store64, u32, u64
from pytcg_x86.core.state import Env

CODE, DATA, PAGE = 0x10000, 0x50000, 0x1000
ENGINES = pytest.mark.parametrize("engine", ["threaded", "jit", "python"])
LOOP = "b905000000 ffc0 ffc9 75fa f4"  # mov ecx,5; L: inc eax; dec ecx; jnz L; hlt


def cpu_with(code: str, engine: str = "threaded", mode: str = "long") -> Cpu:
    cpu = Cpu(mode, engine=engine)
    cpu.map(CODE, PAGE, data=bytes.fromhex(code))
    cpu.map(DATA, PAGE)
    cpu.regs.rbx = DATA
    return cpu


@ENGINES
def test_a_code_hook_sees_every_instruction_with_exact_registers(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    seen = []
    cpu.hooks.code(lambda c, at, size: seen.append((at - CODE, size, c.regs.rip - CODE,
                                                    c.regs.eax, c.regs.ecx, c.regs.zf)))
    assert cpu.run(CODE).kind == "hlt"
    assert seen[:4] == [(0, 5, 0, 0, 0, 0), (5, 2, 5, 0, 5, 0), (7, 2, 7, 1, 5, 0),
                        (9, 2, 9, 1, 4, 0)]  # fmt: skip
    assert len(seen) == 1 + 3 * 5 + 1
    assert seen[-2][5] == 1
    assert cpu.instructions == 17


@ENGINES
def test_hooks_come_and_go_and_ranges_are_half_open(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    hits: list[int] = []
    cpu.run(CODE)
    with cpu.hooks.code(lambda c, at, size: hits.append(at), CODE + 5, CODE + 7):
        cpu.run(CODE)
    cpu.run(CODE)
    assert hits == [CODE + 5] * 5


@ENGINES
def test_rip_may_be_changed_and_instructions_skipped(engine: str) -> None:
    cpu = cpu_with("ffc0 ffc0 0fa2 ffc0 f4", engine)  # inc inc cpuid inc hlt
    cpu.hooks.instruction("cpuid", lambda c, at, size: SKIP)
    cpu.hooks.address(CODE, lambda c, at, size: setattr(c.regs, "rip", CODE + 2))
    assert cpu.run(CODE).kind == "hlt"
    assert (cpu.regs.eax, cpu.regs.ecx, cpu.instructions) == (2, 0, 4)


@ENGINES
def test_stop_before_the_instruction_and_go_on_with_it(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    hook = cpu.hooks.address(CODE + 7, lambda c, at, size: c.stop())
    stop = cpu.run(CODE)
    assert (stop.kind, stop.rip, cpu.regs.eax, cpu.regs.ecx) == ("stop", CODE + 7, 1, 5)
    hook.remove()
    assert cpu.run().kind == "hlt"
    assert cpu.regs.eax == 5


@ENGINES
def test_exceptions_surface_with_the_state_at_the_hook(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    cpu.hooks.address(CODE + 9, lambda c, at, size: {}[at])
    with pytest.raises(KeyError, match=str(CODE + 9)):
        cpu.run(CODE)
    assert (cpu.regs.rip, cpu.regs.eax, cpu.regs.ecx) == (CODE + 9, 1, 4)


@ENGINES
def test_code_that_a_hook_patches_takes_effect_at_once(engine: str) -> None:
    cpu = cpu_with("90 90 ffc0 f4", engine)
    calls = []

    def patch(c: Cpu, at: int, size: int) -> None:
        calls.append(at - CODE)
        if at == CODE + 1:
            c.write(CODE + 1, bytes.fromhex("b003 f4"))  # mov al, 3: this very instruction

    cpu.hooks.code(patch)
    assert cpu.run(CODE).kind == "hlt"
    assert (cpu.regs.eax, calls) == (3, [0, 1, 3])


@ENGINES
def test_a_hook_may_add_hooks_map_memory_and_change_paging_state(engine: str) -> None:
    cpu = cpu_with("90 8b0425 00000900 f4", engine)  # mov eax, [0x90000]
    seen = []

    def first(c: Cpu, at: int, size: int) -> None:
        c.map(0x90000, PAGE, data=b"\x2a")
        c.hooks.code(lambda _c, at, _size: seen.append(at - CODE))

    cpu.hooks.address(CODE, first)
    assert cpu.run(CODE).kind == "hlt"
    assert (cpu.regs.eax, seen) == (42, [1, 8])


@ENGINES
def test_block_hooks_are_called_once_an_entry(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    blocks = []
    cpu.hooks.block(lambda c, at, size: blocks.append((at - CODE, size)))
    cpu.run(CODE)
    assert blocks == [(0, 11)] + [(5, 6)] * 4 + [(11, 1)]


def test_block_hooks_are_called_once_when_a_form_has_to_be_compiled(
        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    cpu = cpu_with(LOOP)
    cpu.run(CODE)
    processor, blocks, missing = cpu._cpu, [], []
    codes = np.frombuffer(processor.buffers["form_list"].view, np.uint64)[1 :: FORM.size // 8]

    def compile_missing() -> None:
        codes[number] = code
        missing.append(number)

    monkeypatch.setattr(processor, "compile_missing", compile_missing)
    cpu.hooks.block(lambda c, at, size: blocks.append((at - CODE, size)))
    for number in range(1, processor.state.get("form_count")):
        processor.engine.call("tb_flush", processor.address)
        code, codes[number] = int(codes[number]), 0
        blocks.clear()
        cpu.run(CODE)
        codes[number] = code
        assert blocks == [(0, 11)] + [(5, 6)] * 4 + [(11, 1)]
    assert 4 <= len(missing) <= 6


@ENGINES
def test_memory_hooks_see_and_change_values(engine: str) -> None:
    # mov eax,[rbx]; add [rbx+8],eax; push rax; movups xmm0,[rbx]; mov ecx,[rbx+0x20]; hlt
    cpu = cpu_with("8b03 014308 50 0f1003 8b4b20 f4", engine)
    cpu.regs.rsp = DATA + 0x800
    cpu.write_int(DATA, 5, 4)
    cpu.write_int(DATA + 8, 7, 4)
    cpu.write_int(DATA + 0x20, 1, 4)
    seen = []

    def look(c: Cpu, kind: str, at: int, size: int, value: int) -> int | None:
        seen.append((c.regs.rip - CODE, kind, at - DATA, size, value))
        if kind == "write" and size == 4:
            return 100
        return 77 if at == DATA + 0x20 else None

    cpu.hooks.memory(look)
    assert cpu.run(CODE).kind == "hlt"
    assert seen == [(0, "read", 0, 4, 5), (2, "read", 8, 4, 7), (2, "write", 8, 4, 12),
                    (5, "write", 0x7F8, 8, 5), (6, "read", 0, 8, 5), (6, "read", 8, 8, 100),
                    (9, "read", 0x20, 4, 1)]  # fmt: skip
    assert (cpu.read_int(DATA + 8, 4), cpu.regs.ecx) == (100, 77)


@ENGINES
def test_memory_hooks_have_ranges_and_cross_pages_whole(engine: str) -> None:
    cpu = cpu_with("8b03 8b4304 8b4308 f4", engine)
    cpu.map(DATA + PAGE, PAGE)
    cpu.regs.rbx = DATA + PAGE - 6
    seen = []
    cpu.hooks.read(lambda c, kind, at, size, value: seen.append((at - DATA, size)),
                   DATA + PAGE - 2, DATA + PAGE + 2)  # fmt: skip
    cpu.run(CODE)
    assert seen == [(PAGE - 2, 4)]


@ENGINES
def test_a_read_hook_may_put_the_value_there(engine: str) -> None:
    cpu = cpu_with("8b03 f4", engine)
    cpu.hooks.read(lambda c, kind, at, size, value: c.write(at, b"\x63"))
    cpu.run(CODE)
    assert cpu.regs.eax == 0x63


@ENGINES
def test_stop_in_a_memory_hook_takes_effect_behind_the_instruction(engine: str) -> None:
    cpu = cpu_with("ff03 ff03 f4", engine)
    cpu.hooks.write(lambda c, *what: c.stop())
    stop = cpu.run(CODE)
    assert (stop.kind, stop.rip, cpu.read_int(DATA, 4)) == ("stop", CODE + 2, 1)


@ENGINES
def test_a_jump_in_a_memory_hook_takes_effect_behind_the_instruction(engine: str) -> None:
    cpu = cpu_with("8b03 ffc0 ffc0 f4", engine)
    cpu.hooks.read(lambda c, *what: setattr(c.regs, "rip", CODE + 4))
    assert cpu.run(CODE).kind == "hlt"
    assert cpu.regs.eax == 1


@ENGINES
def test_string_instructions_go_element_by_element_past_hooks(engine: str) -> None:
    cpu = cpu_with("b904000000 f3a4 f4", engine)
    cpu.regs.rsi, cpu.regs.rdi = DATA, DATA + 0x100
    seen = []
    cpu.hooks.memory(lambda c, kind, at, size, value: seen.append((kind, at - DATA)))
    cpu.run(CODE)
    assert seen == [("read" if n % 2 == 0 else "write", n // 2 + 0x100 * (n % 2))
                    for n in range(8)]  # fmt: skip


@ENGINES
def test_faults_are_handled_and_tried_again(engine: str) -> None:
    cpu = cpu_with("ffc0 c60425 00000a00 07 ffc0 f4", engine)  # mov byte [0xa0000], 7
    stops: list[Stop] = []

    def fault(c: Cpu, stop: Stop) -> bool:
        stops.append(stop)
        c.map(0xA0000, PAGE)
        return True

    cpu.hooks.fault(fault)
    assert cpu.run(CODE).kind == "hlt"
    assert cpu.read(0xA0000, 1) == b"\7"
    stop, = stops
    assert (stop.access, stop.address, stop.size, stop.value) == ("write", 0xA0000, 1, 7)
    assert cpu.regs.eax == 2


@ENGINES
def test_interrupts_ports_and_system_calls(engine: str) -> None:
    cpu = cpu_with("cd80 e460 e680 0f05 cc f4", engine)
    seen: list[object] = []
    cpu.hooks.interrupt(lambda c, vector: seen.append((vector, c.regs.rip - CODE)))
    cpu.hooks.port_in(lambda c, port, size: 0x5A)
    cpu.hooks.port_out(lambda c, port, size, value: seen.append((port, size, value)))

    def syscall(c: Cpu, at: int, size: int) -> object:
        seen.append("syscall")
        return SKIP

    cpu.hooks.instruction("syscall", syscall)
    assert cpu.run(CODE).kind == "hlt"
    assert seen == [(0x80, 2), (0x80, 1, 0x5A), "syscall", (3, 9)]


@native
def count(env: Env, data: ptr, address: u64, size: u32) -> None:
    store64(data, 0, load64(data) + 1)


@native
def double(env: Env, data: ptr, address: u64, size: u32, value: u64) -> u64:
    env.hook_value = value * 2
    return 1


@pytest.mark.parametrize("engine", ["threaded", "jit"])
def test_native_hooks(engine: str) -> None:
    cpu = cpu_with(LOOP, engine)
    from pytcg.softmmu.ram import HostBuffer

    counter = HostBuffer(4096)
    cpu.hooks.code(count, data=counter.address)
    cpu.run(CODE)
    assert int.from_bytes(counter.view[:8], "little") == 17
    other = cpu_with("8b03 f4", engine)
    other.write_int(DATA, 21, 4)
    other.hooks.memory(double, access="r")
    other.run(CODE)
    assert other.regs.eax == 42


@native
def not_a_hook(env: Env) -> None:
    pass


def test_hooks_that_cannot_be() -> None:
    cpu = cpu_with("f4")
    with pytest.raises(HookError, match="no instruction 'frobnicate'"):
        cpu.hooks.instruction("frobnicate", lambda *what: None)
    with pytest.raises(HookError, match="is empty"):
        cpu.hooks.code(lambda *what: None, 5, 5)
    with pytest.raises(HookError, match="not_a_hook: a hook takes"):
        cpu.hooks.code(not_a_hook)
    with pytest.raises(HookError, match="no access"):
        cpu.hooks.memory(lambda *what: None, access="x")


@ENGINES
def test_a_run_within_a_run(engine: str) -> None:
    cpu = cpu_with("90 ffc0 ffc0 f4" + "00" * 26 + "83c064 c3", engine)  # 0x20: add eax,100; ret
    cpu.regs.rsp = DATA + 0x800

    def call(c: Cpu, at: int, size: int) -> None:
        stop = c.run(CODE + 0x1F, until=CODE + 0x22)
        assert stop.kind == "until"

    cpu.write(CODE + 0x1F, bytes.fromhex("83c064 c3"))
    cpu.hooks.address(CODE + 3, call)
    assert cpu.run(CODE).kind == "hlt"
    assert cpu.regs.eax == 102


def test_a_hook_on_one_address_leaves_the_rest_to_regions() -> None:
    cpu = cpu_with("b900000800 ffc0 ffc9 75fa 90 f4", "jit")
    hits = []
    cpu.hooks.address(CODE + 11, lambda c, at, size: hits.append(at))
    assert cpu.run(CODE).kind == "hlt"
    assert (cpu.regs.eax, len(hits)) == (0x80000, 1)
    assert cpu._cpu.regions_run()[1] > 0x80000


def test_a_native_hook_without_source() -> None:
    """As one typed at Python's prompt."""
    names: dict[str, Any] = {}
    exec("from pytcg_native import native, ptr, u32, u64\n"
         "from pytcg_x86.core.state import Env\n"
         "@native\n"
         "def hook(env: Env, data: ptr, address: u64, size: u32) -> None:\n"
         "    env.gpr[0] = address\n", names)  # fmt: skip
    with pytest.raises(HookError, match="hook has no source that can be read: put it into a file"):
        Cpu(engine="threaded").hooks.code(names["hook"])
