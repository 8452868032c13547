"""Running: limits, threads, time, what a stop says; registers and contexts."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytcg import Cpu
from pytcg.errors import BusyError, CpuError, RegisterError

CODE, PAGE = 0x10000, 0x1000
ENGINES = pytest.mark.parametrize("engine", ["auto", "jit", "python"])


def cpu_with(code: str, engine: str = "threaded", mode: str = "long") -> Cpu:
    cpu = Cpu(mode, engine=engine)
    cpu.map(CODE, PAGE, data=bytes.fromhex(code))
    return cpu


@ENGINES
def test_until_may_change_from_run_to_run(engine: str) -> None:
    cpu = cpu_with("ffc0 ffc0 ffc0 ffc0 f4", engine)
    for end in (4, 2, 6, 2, 8):
        cpu.regs.eax = 0
        stop = cpu.run(CODE, until=CODE + end)
        assert (stop.kind, stop.rip, cpu.regs.eax) == ("until", CODE + end, end // 2)
    assert cpu.run(CODE).kind == "hlt"


def test_until_at_the_first_address_of_the_next_page() -> None:
    cpu = Cpu()
    cpu.map(CODE, 2 * PAGE, data=b"\x90" * PAGE + b"\x90\xf4")
    assert cpu.run(CODE + PAGE - 3).kind == "hlt"
    assert cpu.run(CODE + PAGE - 3, until=CODE + PAGE).rip == CODE + PAGE
    assert cpu.run(CODE + PAGE - 3, until=CODE + PAGE + 1).rip == CODE + PAGE + 1
    assert cpu.run(CODE + PAGE - 3).kind == "hlt"


def test_time_runs_out() -> None:
    cpu = cpu_with("ebfe")
    began = time.monotonic()
    assert cpu.run(CODE, timeout=0.1).kind == "timeout"
    assert time.monotonic() - began < 5
    assert cpu.run(CODE, max_insns=3).kind == "limit"


def test_another_thread_stops_it_and_may_not_run_it() -> None:
    cpu = cpu_with("ebfe")
    stops = []
    thread = threading.Thread(target=lambda: stops.append(cpu.run(CODE)))
    thread.start()
    while not cpu._owner_thread:
        time.sleep(0.001)
    time.sleep(0.05)
    with pytest.raises(BusyError, match="running already"):
        cpu.run(CODE)
    cpu.stop()
    thread.join(5)
    assert [stop.kind for stop in stops] == ["stop"]
    assert cpu.run(CODE, max_insns=1).kind == "limit"


def test_two_processors_run_at_once() -> None:
    cpus = [cpu_with("b900000010 ffc0 ffc9 75fa f4") for _ in range(2)]
    threads = [threading.Thread(target=cpu.run, args=(CODE,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cpu.regs.eax for cpu in cpus] == [0x10000000] * 2


def test_processors_that_are_dropped_leave_no_memory() -> None:
    def some(count: int) -> int:
        for _ in range(count):
            cpu = cpu_with("ffc0 f4")
            cpu.hooks.code(lambda c, at, size: None)
            cpu.run(CODE)
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    before = some(50)
    assert some(300) - before < 8 << 20


def test_processors_share_what_they_begin_with() -> None:
    """Tables of a megabyte and a half are the same pages for all until they are written to."""
    cpu_with("ffc0f4").run(CODE)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    kept = [cpu_with("ffc0f4") for _ in range(50)]
    assert resident() - before < 50 * 512
    assert len(os.listdir("/proc/self/fd")) == files
    kept[7].run(CODE)
    assert [cpu.regs.eax for cpu in kept] == [int(n == 7) for n in range(50)]
    for cpu in kept[:3]:
        cpu.write(CODE, b"\x0f\xc8\xf4")  # bswap eax: perhaps a form of its own
        assert cpu.run(CODE).kind == "hlt" and cpu.regs.eax == 0


def resident() -> int:
    """KiB of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_what_a_stop_says() -> None:
    cpu = cpu_with("8b03 f4")
    cpu.regs.rbx = 0x123450
    text = repr(cpu.run(CODE))
    assert "mov eax, dword ptr [rbx]" in text
    assert "#PF page fault" in text and "read of 0x123450" in text
    assert "hlt" in repr(cpu.run(CODE + 2))


def test_bad_arguments_to_run() -> None:
    cpu = cpu_with("f4")
    for bad in ({"start": -1}, {"start": 1 << 64}, {"start": "x"}, {"until": -5, "start": CODE},
                {"max_insns": -1}):  # fmt: skip
        with pytest.raises(CpuError):
            cpu.run(**bad)
    assert cpu.run(CODE).kind == "hlt"


def test_registers_as_attributes_and_in_batches() -> None:
    cpu = Cpu()
    cpu.regs.rax = 0x1122334455667788
    assert (cpu.regs.ah, cpu.regs["ax"], cpu.regs.eax) == (0x77, 0x7788, 0x55667788)
    cpu.regs.ymm3 = 1 << 255 | 5
    assert (cpu.regs.ymm3, cpu.regs.xmm3) == (1 << 255 | 5, 5)
    cpu.regs.zf, cpu.regs.cf = 1, 0
    cpu.regs.cf = 1
    assert cpu.regs.rflags & 0x41 == 0x41
    cpu.regs.fs_base = 0x7000
    assert cpu.regs["fs.base"] == 0x7000
    cpu.regs.write({"rbx": 1, "rcx": 2})
    assert cpu.regs.read(["rcx", "rbx"]) == (2, 1)
    with pytest.raises(RegisterError, match="no register 'rqx'"):
        cpu.regs.write({"rbx": 9, "rqx": 1})
    assert cpu.regs.rbx == 1
    with pytest.raises(AttributeError):
        cpu.regs.rqx  # noqa: B018
    with pytest.raises(RegisterError, match="does not fit"):
        cpu.regs.al = 256
    cpu.regs.msr[0xC0000082] = 0x1234
    assert (cpu.regs.msr[0xC0000082], cpu.regs.lstar) == (0x1234, 0x1234)
    with pytest.raises(RegisterError, match="no MSR"):
        cpu.regs.msr[0x12345678]
    assert "rax" in dir(cpu.regs)
    assert all(isinstance(cpu.regs[name], int) for name in cpu.regs)


def test_contexts() -> None:
    cpu = cpu_with("ffc0 0f57c0 f4")
    cpu.regs.xmm0, cpu.regs.rip = 5, CODE
    context = cpu.save_context()
    cpu.run(CODE)
    assert (cpu.regs.eax, cpu.regs.xmm0) == (1, 0)
    cpu.restore_context(context)
    assert (cpu.regs.eax, cpu.regs.xmm0, cpu.regs.rip) == (0, 5, CODE)
    with pytest.raises(CpuError, match="no context"):
        Cpu("real").restore_context(context)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["abuse.py", "abuse_unicorn.py"])
def test_whatever_a_script_does_the_process_lives(script: str) -> None:
    path = Path(__file__).parent / script
    done = subprocess.run([sys.executable, "-X", "faulthandler", str(path), "0", "60"],
                          capture_output=True, text=True, timeout=400, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.stdout.endswith("alive\n"), done.stdout[-100:] + done.stderr[-3000:]
