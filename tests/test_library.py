"""The library: `from pytcg import Cpu`, as its users know it from Unicorn."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pytcg import Cpu, CpuError

CODE = 0x10000
ENGINES = pytest.mark.parametrize("engine", ["threaded", "python"])


def cpu_with(code: str, mode: str = "long", engine: str = "threaded") -> Cpu:
    cpu = Cpu(mode, engine=engine)
    cpu.map(CODE, 0x1000)
    cpu.write(CODE, bytes.fromhex(code))
    return cpu


@ENGINES
def test_hlt_ends_a_run_after_itself(engine: str) -> None:
    cpu = cpu_with("4801d8 f4", engine=engine)  # add rax, rbx; hlt
    cpu.regs["rax"], cpu.regs["rbx"] = 5, 2**64 - 1
    stop = cpu.run(CODE, until=None, max_insns=1_000_000)
    assert (stop.kind, stop.rip, cpu.regs["rax"]) == ("hlt", CODE + 4, 4)
    assert cpu.regs["eflags"] & 1 == 1


@ENGINES
def test_until_stops_before_the_address(engine: str) -> None:
    cpu = cpu_with("ffc0 ffc0 ffc0 f4", engine=engine)
    assert cpu.run(CODE, until=CODE + 4).kind == "until"
    assert (cpu.regs["eax"], cpu.regs["rip"]) == (2, CODE + 4)
    assert cpu.run(CODE, until=CODE).kind == "until"
    assert cpu.regs["eax"] == 2


@ENGINES
@pytest.mark.parametrize("count", range(1, 12))
def test_max_insns_is_exact(engine: str, count: int) -> None:
    cpu = cpu_with("ffc0 ebfc", engine=engine)  # L: inc eax; jmp L
    stop = cpu.run(CODE, max_insns=count)
    assert (stop.kind, cpu.regs["eax"]) == ("limit", (count + 1) // 2)


@ENGINES
def test_an_exception_without_a_handler_leaves_the_state_as_at_the_fault(engine: str) -> None:
    cpu = cpu_with("b807000000 8b0b f4", engine=engine)  # mov eax, 7; mov ecx, [rbx]
    cpu.regs["rbx"], cpu.regs["rcx"] = 0x5000, 3
    stop = cpu.run(CODE)
    assert (stop.kind, stop.vector, stop.error_code) == ("exception", 14, 0)
    assert (stop.address, stop.rip) == (0x5000, CODE + 5)
    assert (cpu.regs["eax"], cpu.regs["rcx"], cpu.regs["rip"]) == (7, 3, CODE + 5)


@ENGINES
def test_divide_error_and_undefined_opcode_have_no_error_code(engine: str) -> None:
    for code, vector in (("f7f1", 0), ("0f0b", 6)):
        cpu = cpu_with(code, engine=engine)
        stop = cpu.run(CODE)
        assert (stop.kind, stop.vector, stop.error_code, stop.address) == (
            "exception", vector, None, None)  # fmt: skip


@ENGINES
@pytest.mark.parametrize("mode", ["real", "protected", "long"])
@pytest.mark.parametrize(("code", "vector"), [("cd80", 0x80), ("cc", 3), ("cd21", 0x21)])
def test_a_software_interrupt_without_a_handler_stops(engine: str, mode: str, code: str,
                                                      vector: int) -> None:  # fmt: skip
    cpu = Cpu(mode, engine=engine)
    cpu.map(0, 0x2000)
    cpu.write(0x1000, bytes.fromhex(code))
    cpu.regs["rsp"] = 0x1800
    stop = cpu.run(0x1000)
    assert (stop.kind, stop.vector, stop.error_code) == ("exception", vector, None)
    assert stop.rip == 0x1000
    assert cpu.regs["rsp"] == 0x1800


def test_modes_differ_in_what_the_same_bytes_mean() -> None:
    results = {}
    for mode in ("real", "protected", "long"):
        cpu = Cpu(mode)
        cpu.map(0, 0x2000)
        cpu.write(0x1000, bytes.fromhex("40 f4"))  # inc (e)ax, but a REX prefix in long mode
        cpu.run(0x1000)
        results[mode] = cpu.regs["eax"]
    assert results == {"real": 1, "protected": 1, "long": 0}


def test_registers_by_every_kind_of_name() -> None:
    cpu = Cpu()
    cpu.regs["rax"] = 0x1122334455667788
    assert (cpu.regs["eax"], cpu.regs["ax"], cpu.regs["ah"], cpu.regs["al"]) == (
        0x55667788, 0x7788, 0x77, 0x88)  # fmt: skip
    cpu.regs["eax"] = 1
    assert cpu.regs["rax"] == 1
    cpu.regs["xmm3"] = (1 << 127) | 5
    assert cpu.regs["xmm3"] == (1 << 127) | 5
    cpu.regs["eflags"] = 0x8D5
    assert cpu.regs["eflags"] == 0x8D7
    with pytest.raises(KeyError):
        cpu.regs["rzx"]
    with pytest.raises(ValueError, match="does not fit"):
        cpu.regs["al"] = 256


def test_a_real_mode_selector_brings_its_base() -> None:
    cpu = Cpu("real")
    cpu.map(0x12000, 0x1000)
    cpu.write(0x12345, b"\x5a")
    cpu.write(0x12400, bytes.fromhex("a04503 f4"))  # mov al, [0345]
    cpu.regs["ds"], cpu.regs["cs"] = 0x1200, 0x1200
    assert cpu.run(0x400).kind == "hlt"
    assert (cpu.regs["al"], cpu.regs["ds.base"]) == (0x5A, 0x12000)


def test_wrong_uses_are_typed_errors() -> None:
    with pytest.raises(CpuError, match="no mode 'huge'"):
        Cpu("huge")
    with pytest.raises(CpuError, match="no engine 'fast'"):
        Cpu(engine="fast")
    cpu = Cpu()
    with pytest.raises(CpuError, match="whole pages"):
        cpu.map(0x123, 0x1000)
    cpu.map(0x1000, 0x1000)
    with pytest.raises(CpuError, match="overlaps"):
        cpu.map(0x1000, 0x1000)
    with pytest.raises(CpuError, match="no memory at 0x9000"):
        cpu.read(0x9000, 1)
    with pytest.raises(CpuError, match="no memory at 0x2000"):
        cpu.write(0x1FFF, b"ab")


def test_many_processors_live_side_by_side() -> None:
    cpus = [cpu_with(f"b8{n:02x}000000 f4") for n in range(20)]
    for cpu in cpus:
        cpu.run(CODE)
    assert [cpu.regs["eax"] for cpu in cpus] == list(range(20))


def test_code_written_between_runs_is_the_code_that_runs() -> None:
    cpu = cpu_with("b801000000 f4")
    cpu.run(CODE)
    cpu.write(CODE, bytes.fromhex("b802000000 f4"))
    cpu.run(CODE)
    assert cpu.regs["eax"] == 2


def test_ctrl_c_ends_an_endless_run() -> None:
    cpu = cpu_with("ebfe")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        cpu.run(CODE)
    timer.join()
    assert cpu.run(CODE, max_insns=10).kind == "limit"


@ENGINES
@pytest.mark.parametrize("code", ["d7", "0ff7c1"])  # xlat; maskmovq mm0, mm1
def test_implicit_operands_lie_in_ds_whatever_stood_in_the_record(engine: str, code: str) -> None:
    cpu = cpu_with("64 8b 00 f4", engine=engine)  # mov eax, fs:[rax]: leaves FS in the record
    cpu.map(0x30000, 0x1000)
    cpu.regs["fs.base"] = 0x20000
    cpu.regs["rax"] = 0x10000
    assert cpu.run(CODE).kind == "hlt"
    cpu.write(CODE, bytes.fromhex(code) + b"\xf4")
    cpu.write(0x30000, b"\x5a" * 16)
    cpu.regs["rax"], cpu.regs["rbx"], cpu.regs["rdi"] = 0, 0x30000, 0x30000
    cpu.regs["mm0"], cpu.regs["mm1"] = int.from_bytes(b"\xc3" * 8, "little"), (1 << 64) - 1
    # A new `until` drops all blocks, so that the same record is used again.
    assert cpu.run(CODE, until=CODE + 0x800).kind == "hlt"
    if code == "d7":
        assert cpu.regs["al"] == 0x5A
    else:
        assert cpu.read(0x30000, 8) == b"\xc3" * 8
