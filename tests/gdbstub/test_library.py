"""`Cpu.serve_gdb` with GDB, and by hand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gdbstub.client import RCX, RIP, Wire, needs_gdb, run_gdb
from pytcg import Cpu
from pytcg.gdbstub.library import Listening

CODE, DATA = 0x10000, 0x50000
LOOP = "mov ecx, 5; l: inc dword ptr [rbx]; mov eax, [rbx+8]; mov [rbx+8], ecx; dec ecx; jnz l; hlt"
INC, LOAD, STORE, END = 0x10005, 0x10007, 0x1000A, 0x10012


def looping(engine: str = "auto", text: str = LOOP) -> Cpu:
    cpu = Cpu(engine=engine)
    cpu.map(CODE, 0x1000, data=cpu.asm(text, address=CODE))
    cpu.map(DATA, 0x1000)
    cpu.regs.rbx, cpu.regs.rip = DATA, CODE
    return cpu


@contextmanager
def served(cpu: Cpu, *, record: bool = False) -> Iterator[Listening]:
    """The processor served by a thread, until the debugger goes."""
    places: list[Listening] = []
    listening = threading.Event()
    errors: list[BaseException] = []

    def started(place: Listening) -> None:
        places.append(place)
        listening.set()

    def serve() -> None:
        try:
            cpu.serve_gdb(0, record=record, started=started)
        except BaseException as error:
            errors.append(error)
            listening.set()

    thread = threading.Thread(target=serve)
    thread.start()
    assert listening.wait(60)
    yield places[0]
    thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


@contextmanager
def wired(cpu: Cpu, *, record: bool = False) -> Iterator[Wire]:
    with served(cpu, record=record) as place:
        wire = Wire((place.host, place.port))
        yield wire
        wire.close()


def gdb(cpu: Cpu, *commands: str, record: bool = False) -> str:
    with served(cpu, record=record) as place:
        return run_gdb(f":{place.port}", *commands)


@needs_gdb
def test_gdb_breaks_watches_and_steps() -> None:
    text = gdb(looping(), f"hbreak *{STORE:#x}", "continue", "p $rip", "p $ecx", "stepi", "p $rip",
               "delete", f"watch *(int *){DATA + 8:#x}", "continue", "continue",
               f"rwatch *(int *){DATA + 8:#x}", "continue", "p $rip", "p $eflags",
               "detach")  # fmt: skip
    assert f"$1 = (void (*)()) {STORE:#x}" in text and "$2 = 5" in text
    assert f"$3 = (void (*)()) {STORE + 3:#x}" in text
    assert re.findall(r"Old value = (\d+)\nNew value = (\d+)", text)[:2] == [("5", "4"), ("4", "3")]
    assert "Hardware read watchpoint" in text and f"$4 = (void (*)()) {STORE:#x}" in text
    assert "[ PF ]" in text or "[ ]" in text


@needs_gdb
def test_gdb_goes_backwards() -> None:
    back = f"watch *(int *){DATA:#x}"
    text = gdb(looping(), f"hbreak *{STORE:#x}", "continue", "continue", "continue", "p $ecx",
               "reverse-continue", "p $ecx", "reverse-stepi", "p $rip", "delete", "continue",
               back, "reverse-continue", "p $rip", "delete", "reverse-continue", "p $rip",
               "stepi", "p $ecx", "detach", record=True)  # fmt: skip
    assert "$1 = 3" in text and "$2 = 4" in text
    assert f"$3 = (void (*)()) {LOAD:#x}" in text
    assert "Old value = 5\nNew value = 4" in text and f"$4 = (void (*)()) {INC:#x}" in text
    assert "No more reverse-execution history" in text and f"$5 = (void (*)()) {CODE:#x}" in text
    assert "$6 = 5" in text


@needs_gdb
def test_gdb_knows_32_bit_processors() -> None:
    cpu = Cpu("protected")
    cpu.map(CODE, 0x1000, data=cpu.asm("mov eax, 7; push eax; pop ecx; fld1; hlt", address=CODE))
    cpu.map(DATA, 0x1000)
    cpu.regs.esp, cpu.regs.eip = DATA + 0x800, CODE
    text = gdb(cpu, "show architecture", "stepi", "stepi", "stepi", "stepi", "p $ecx", "p $st0",
               "p $eip", "info registers cr0", "detach")  # fmt: skip
    assert 'currently "i386"' in text
    assert "$1 = 7" in text and "$2 = 1\n" in text and f"{CODE + 9:#x}" in text
    assert "[ PE ET NE ]" in text


@pytest.mark.parametrize("engine", ["threaded", "jit", "python"])
def test_points_stop_where_they_are(engine: str) -> None:
    with wired(looping(engine)) as wire:
        assert wire.ask(f"Z0,{STORE:x},1") == wire.ask(f"Z2,{DATA:x},4") == "OK"
        stops = [(wire.ask("c"), wire.register(RIP), wire.register(RCX)) for _ in range(4)]
        watch, stop = f"T05thread:01;watch:{DATA:x};", "T05thread:01;"
        assert stops == [(watch, LOAD, 5), (stop, STORE, 5), (watch, LOAD, 4), (stop, STORE, 4)]
        assert wire.ask(f"z0,{STORE:x},1") == wire.ask(f"z2,{DATA:x},4") == "OK"
        assert wire.ask(f"Z4,{DATA + 9:x},1") == "OK"
        assert wire.ask("c") == f"T05thread:01;awatch:{DATA + 8:x};"
        assert wire.register(RIP) == STORE + 3
        assert wire.ask("D") == "OK"


def test_hundreds_of_breakpoints() -> None:
    with wired(looping()) as wire:
        for at in range(300):
            assert wire.ask(f"Z0,{0x20000 + at:x},1") == "OK"
        assert wire.ask(f"Z0,{LOAD:x},1") == wire.ask(f"Z1,{LOAD:x},1") == "OK"
        wire.ask("c")
        assert wire.register(RIP) == LOAD
        assert wire.ask(f"z0,{LOAD:x},1") == "OK"
        wire.ask("c")
        assert (wire.register(RIP), wire.register(RCX)) == (LOAD, 4)
        assert wire.ask("D") == "OK"


MODIFIES = [
    ("xadd [rbx], rcx", {"rcx": 3}, 10, {"rcx": 10}, 13),
    ("cmpxchg [rbx], rcx", {"rcx": 3, "rax": 10}, 10, {"rax": 10, "zf": 1}, 3),
    ("xchg [rbx], rcx", {"rcx": 3}, 10, {"rcx": 10}, 3),
    ("adc qword ptr [rbx], 1", {"cf": 1}, 10, {}, 12),
    ("push [rbx]; pop [rbx]", {"rsp": DATA + 0x800}, 10, {"rsp": DATA + 0x800}, 10),
    ("rep stosq", {"rdi": DATA, "rax": 7, "rcx": 2}, 0, {"rcx": 0, "rdi": DATA + 16}, 7),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "memory", "after", "result"), MODIFIES)
def test_watched_instructions_do_what_they_do(
    text: str, before: dict[str, int], memory: int, after: dict[str, int], result: int
) -> None:
    cpu = looping(text=text + "; hlt")
    cpu.write_int(DATA, memory)
    cpu.regs.write(before)
    with wired(cpu) as wire:
        assert wire.ask(f"Z2,{DATA:x},8") == "OK"
        assert wire.ask("c") == f"T05thread:01;watch:{DATA:x};"
        wire.ask("c")
        assert wire.ask("D") == "OK"
    assert cpu.read_int(DATA) == result
    assert {name: cpu.regs[name] for name in after} == after


def test_ctrl_c_ends_an_endless_loop() -> None:
    with wired(looping(text="l: jmp l")) as wire:
        for _ in range(3):
            wire.send("c")
            assert wire.interrupt() == "T02thread:01;"
            assert wire.register(RIP) == CODE
        assert wire.ask("D") == "OK"


def test_faults_are_signals_and_hooks_work() -> None:
    cpu = looping(text="nop; mov eax, [0x900000]; ud2")
    seen = []
    cpu.hooks.code(lambda cpu, address, size: seen.append(address))
    with wired(cpu) as wire:
        assert wire.ask(f"Z0,{CODE + 1:x},1") == "OK"
        assert wire.ask("c") == "T05thread:01;"
        assert wire.ask("c") == "T0bthread:01;"
        wire.set_register(RIP, CODE + 8)
        assert wire.ask("c") == "T04thread:01;"
        assert wire.ask("D") == "OK"
    assert seen == [CODE, CODE + 1, CODE + 8]


def test_what_a_hook_raises_surfaces() -> None:
    cpu = looping()

    def failing(cpu: Cpu, address: int, size: int) -> None:
        raise ZeroDivisionError

    cpu.hooks.address(INC, failing)
    with pytest.raises(ZeroDivisionError), wired(cpu) as wire:
        wire.send("c")
        with pytest.raises((AssertionError, OSError)):
            wire.receive()


def test_history_diverges_where_the_debugger_writes() -> None:
    with wired(looping(), record=True) as wire:
        for _ in range(3):
            wire.ask("s")
        wire.set_register(RCX, 9)
        wire.ask("M50000,4:63000000")
        wire.ask("s")  # the store
        assert wire.memory(DATA + 8, 1) == b"\x09"
        assert wire.ask("bs") == "T05thread:01;"
        assert (wire.register(RIP), wire.register(RCX)) == (STORE, 9)
        wire.ask("bs")
        assert (wire.register(RIP), wire.register(RCX), wire.memory(DATA, 1)) == (LOAD, 5, b"\x01")
        for _ in range(4):
            reply = wire.ask("bs")
        assert reply == "T05thread:01;replaylog:begin;" and wire.register(RIP) == CODE
        assert wire.ask("D") == "OK"


def test_inputs_are_the_same_the_second_time() -> None:
    cpu = looping(text="in al, 0x60; mov ecx, [0xF0000]; in al, 0x60; hlt")
    answers = iter(range(100))
    cpu.map_mmio(0xF0000, 0x1000, read=lambda offset, size: next(answers))
    cpu.hooks.port_in(lambda cpu, port, size: next(answers))
    with wired(cpu, record=True) as wire:
        wire.ask("c")
        assert (wire.register(0), wire.register(RCX)) == (2, 1)
        for _ in range(3):
            wire.ask("bs")
        wire.ask("c")
        assert (wire.register(0), wire.register(RCX)) == (2, 1)
        assert wire.ask("D") == "OK"
    assert next(answers) == 3


def test_long_histories() -> None:
    cpu = looping(text="mov ecx, 1000000; l: inc qword ptr [rbx]; dec ecx; jnz l; hlt")
    with wired(cpu, record=True) as wire:
        wire.ask("c")
        assert wire.memory(DATA, 8) == (1000000).to_bytes(8, "little")
        wire.ask("bs")
        wire.ask("bs")  # before the last JNZ
        assert wire.register(RIP) == 0x1000A
        assert wire.ask(f"Z0,{CODE + 5:x},1") == "OK"
        wire.ask("bc")
        assert (wire.register(RIP), wire.register(RCX)) == (CODE + 5, 1)
        wire.ask("bc")
        assert (wire.register(RIP), wire.register(RCX)) == (CODE + 5, 2)
        assert wire.ask("D") == "OK"


def test_a_debugger_that_vanishes_ends_the_service() -> None:
    def vanish(after: Callable[[Wire], None]) -> Cpu:
        cpu = looping(text="l: jmp l")
        with wired(cpu) as wire:
            wire.ask(f"Z0,{CODE + 0x100:x},1")
            after(wire)
        return cpu

    vanish(lambda wire: None)
    cpu = vanish(lambda wire: wire.send("c"))
    assert cpu.run(CODE, max_insns=100).kind == "limit"
    cpu = vanish(lambda wire: wire.socket.sendall(b"\xff$%%%" * 50))
    assert cpu.run(CODE, max_insns=100).kind == "limit"


def test_monitor_and_unix_sockets(tmp_path: Path) -> None:
    cpu, path = looping(), str(tmp_path / "gdb")
    listening = threading.Event()
    thread = threading.Thread(target=cpu.serve_gdb, args=(path,),
                              kwargs={"started": lambda place: listening.set()})  # fmt: skip
    thread.start()
    assert listening.wait(60)
    wire = Wire(path)
    wire.send("qRcmd," + b"info regions".hex())
    assert "0x10000-0x10fff" in bytes.fromhex(wire.receive()[1:]).decode()
    wire.send("k")
    thread.join(60)
    assert not thread.is_alive() and not Path(path).exists()
