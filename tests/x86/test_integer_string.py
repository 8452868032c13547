"""String instructions: long runs, overlaps, faults in the middle, interruptions, ports."""

from __future__ import annotations

import random

import pytest

import pytcg.cpu
from pytcg.cpu import Cpu
from pytcg.fuzz import hostcpu
from x86.outcome import HLT, LONG, NAMES

PAGE = 0x1000
CODE, DATA = 0x10000, 0x20000
END = DATA + 4 * PAGE
RAX, RCX, RDX, RSI, RDI = 0, 1, 2, 6, 7
REP, REPNE = b"\xf3", b"\xf2"


def make_cpu(mode: str = "long") -> Cpu:
    cpu = Cpu(mode=mode)
    cpu.map(CODE, PAGE)
    cpu.map(DATA, END - DATA)
    return cpu


def start(cpu: Cpu, code: bytes, **regs: int) -> pytcg.cpu.Stop:
    cpu.write(CODE, code + HLT)
    for name, value in regs.items():
        cpu.regs[name] = value
    return cpu.run(CODE, max_insns=1)


def encode(opcode: int, size: int, prefix: bytes = REP) -> bytes:
    """A string instruction of ``size`` bytes an element; ``opcode`` is that for bytes."""
    more = {1: b"", 2: b"\x66", 4: b"", 8: b""}[size]
    rex = b"\x48" if size == 8 else b""
    return more + prefix + rex + bytes([opcode + (size > 1)])


@pytest.mark.skipif(not hostcpu.available(), reason="the host is no x86-64 Linux")
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("opcode", [0xA4, 0xAA, 0xA6, 0xAE], ids=["movs", "stos", "cmps", "scas"])
def test_long_runs_with_any_overlap_match_the_host(opcode: int, size: int) -> None:
    rng = random.Random(f"{opcode} {size}")
    cpu = Cpu()
    cpu.map(LONG.code & -PAGE, LONG.data + LONG.size - (LONG.code & -PAGE))
    host = hostcpu.host_cpu()
    for _ in range(25):
        backward = rng.random() < 0.4
        count = rng.randrange(3 * PAGE // size)
        low = LONG.data + PAGE + rng.randrange(PAGE)
        source = low + (3 * PAGE if backward else 0)
        anywhere = rng.randrange(-PAGE, PAGE)
        distance = rng.choice((0, 1, -1, 3, 8, 15, 16, 17, -16, 100, PAGE, anywhere))
        data = rng.choice((rng.randbytes(LONG.size), bytes(LONG.size)))
        regs = [0] * 16
        regs[RAX], regs[RCX] = 0x0102_0304_0506_0708 * rng.randrange(2), count
        regs[RSI], regs[RDI], regs[4] = source, source + distance, LONG.stack
        flags = 0x602 if backward else 0x202
        code = encode(opcode, size, rng.choice((REP, REPNE)))
        host.data[:] = data
        want = host.run(code, hostcpu.HostState(regs, flags))
        cpu.write(LONG.code, code + HLT)
        cpu.write(LONG.data, data)
        for name, value in zip(NAMES, regs, strict=True):
            cpu.regs[name] = value
        cpu.regs["eflags"] = flags
        cpu.run(LONG.code, max_insns=1)
        assert [cpu.regs[name] for name in NAMES] == want.regs, (code.hex(), count, distance)
        assert cpu.regs["eflags"] & 0xCD5 == want.flags & 0xCD5
        assert cpu.read(LONG.data, LONG.size) == bytes(host.data), (code.hex(), count, distance)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_rep_movs_stops_exactly_at_an_unwritable_page(size: int) -> None:
    cpu = make_cpu()
    cpu.write(DATA, bytes(range(256)) * 16)
    room = PAGE + 3 * size
    stop = start(cpu, encode(0xA4, size), rcx=5 * PAGE, rsi=DATA, rdi=END - room, eflags=2)
    assert (stop.kind, stop.vector, stop.address, stop.rip) == ("exception", 14, END, CODE)
    assert cpu.regs["rcx"] == 5 * PAGE - room // size
    assert (cpu.regs["rsi"], cpu.regs["rdi"]) == (DATA + room, END)
    assert cpu.read(END - room, room) == cpu.read(DATA, room)


def test_rep_movs_stops_exactly_at_an_unreadable_page() -> None:
    cpu = make_cpu()
    stop = start(cpu, encode(0xA4, 4), rcx=PAGE, rsi=END - 40, rdi=DATA, eflags=2)
    assert (stop.vector, stop.address) == (14, END)
    assert (cpu.regs["rcx"], cpu.regs["rdi"]) == (PAGE - 10, DATA + 40)


def test_rep_stos_downwards_stops_exactly_below_memory() -> None:
    cpu = make_cpu()
    cpu.write(DATA, b"\xee" * 64)
    stop = start(cpu, encode(0xAA, 8), rcx=1000, rax=0x1122, rdi=DATA + PAGE, eflags=0x402)
    assert (stop.vector, stop.address) == (14, DATA - 8)
    assert (cpu.regs["rcx"], cpu.regs["rdi"]) == (1000 - 513, DATA - 8)
    assert cpu.read(DATA, 8) == (0x1122).to_bytes(8, "little")


def test_an_element_across_a_page_that_faults_changes_nothing() -> None:
    cpu = make_cpu()
    before = cpu.read(END - 16, 16)
    stop = start(cpu, encode(0xAA, 8), rcx=1, rax=-1 & (1 << 64) - 1, rdi=END - 3, eflags=2)
    assert (stop.vector, stop.address) == (14, END)
    assert cpu.read(END - 16, 16) == before
    assert (cpu.regs["rcx"], cpu.regs["rdi"]) == (1, END - 3)


def test_a_fault_in_repe_cmps_leaves_the_flags_alone() -> None:
    cpu = make_cpu()
    stop = start(cpu, encode(0xA6, 1), rcx=100, rsi=END - 10, rdi=DATA, eflags=0x8D7)
    assert (stop.vector, cpu.regs["rcx"]) == (14, 90)
    assert cpu.regs["eflags"] & 0xCD5 == 0x8D5


def test_a_string_store_over_the_running_code_takes_effect_at_once() -> None:
    cpu = make_cpu()
    cpu.write(DATA, b"\xff\xc0")  # inc eax, to be moved over the first two NOPs
    cpu.write(CODE, encode(0xA4, 1) + b"\x90" * 4 + HLT)
    for name, value in {"rcx": 2, "rax": 5, "rsi": DATA, "rdi": CODE + 2, "eflags": 2}.items():
        cpu.regs[name] = value
    stop = cpu.run(CODE, max_insns=1000)
    assert (stop.kind, cpu.regs["rax"], cpu.regs["rip"]) == ("hlt", 6, CODE + 7)


@pytest.mark.parametrize("opcode", [0xA4, 0xAA, 0xA6], ids=["movs", "stos", "cmps"])
def test_single_stepping_traps_after_every_iteration(opcode: int) -> None:
    cpu = make_cpu()
    start(cpu, encode(opcode, 1), rcx=0, eflags=2)
    for name, value in {"rcx": 3, "rsi": DATA, "rdi": DATA + 64, "eflags": 0x102}.items():
        cpu.regs[name] = value
    for left in (2, 1, 0):
        stop = cpu.run(CODE, max_insns=100)
        after = CODE + (0 if left else 2)
        assert (stop.kind, stop.vector, stop.rip) == ("exception", 1, after)
        assert cpu.regs["rcx"] == left


def test_byte_moves_wrap_at_64_kib_with_16_bit_addresses() -> None:
    cpu = Cpu(mode="real")
    cpu.map(0, 0x10000)
    cpu.write(0xFFF8, bytes(range(1, 9)))
    cpu.write(0, bytes(range(9, 17)))
    cpu.write(0x1000, b"\xf3\xa4" + HLT)
    for name, value in {"cx": 16, "si": 0xFFF8, "di": 0x2000, "eflags": 2}.items():
        cpu.regs[name] = value
    cpu.run(0x1000, max_insns=1)
    assert cpu.read(0x2000, 16) == bytes(range(1, 17))
    assert (cpu.regs["si"], cpu.regs["di"], cpu.regs["cx"]) == (8, 0x2010, 0)


def test_a_segment_limit_stops_a_repetition_exactly() -> None:
    cpu = make_cpu("protected")
    cpu.regs["es.limit"] = DATA + 99
    stop = start(cpu, encode(0xAA, 2), ecx=80, edi=DATA, eax=0x1234, eflags=2)
    assert (stop.vector, stop.error_code) == (13, 0)
    assert (cpu.regs["ecx"], cpu.regs["edi"]) == (30, DATA + 100)


class PortLog:
    """A bus with one port that counts, and that asks for attention at every access."""

    def __init__(self) -> None:
        self.cpu: Cpu | None = None
        self.next = 0
        self.written: list[tuple[int, int, int]] = []

    def read_port(self, port: int, size: int) -> int:
        self._disturb()
        self.next += 1
        return self.next

    def write_port(self, port: int, size: int, value: int) -> None:
        self._disturb()
        self.written.append((port, size, value))

    def _disturb(self) -> None:
        assert self.cpu is not None
        self.cpu._cpu.poke()  # as a device does that raises an interrupt


@pytest.fixture
def port_log(monkeypatch: pytest.MonkeyPatch) -> PortLog:
    log = PortLog()
    monkeypatch.setattr(pytcg.cpu.NoBus, "read_port", lambda _bus, p, s: log.read_port(p, s))
    monkeypatch.setattr(
        pytcg.cpu.NoBus, "write_port", lambda _bus, p, s, v: log.write_port(p, s, v)
    )
    log.cpu = make_cpu()
    return log


def test_rep_ins_survives_interruption_after_every_element(port_log: PortLog) -> None:
    cpu = port_log.cpu
    assert cpu is not None
    stop = start(cpu, encode(0x6C, 2), rcx=50, rdi=DATA, rdx=0x1F0, eflags=2)
    assert (stop.kind, cpu.regs["rcx"], cpu.regs["rdi"]) == ("limit", 0, DATA + 100)
    assert cpu.regs["rip"] == CODE + 3
    assert cpu.read(DATA, 100) == b"".join(n.to_bytes(2, "little") for n in range(1, 51))


def test_rep_outs_writes_every_element_to_the_port(port_log: PortLog) -> None:
    cpu = port_log.cpu
    assert cpu is not None
    cpu.write(DATA, bytes(range(40)))
    start(cpu, encode(0x6E, 4), rcx=10, rsi=DATA, rdx=0xCF8, eflags=2)
    words = [int.from_bytes(bytes(range(n, n + 4)), "little") for n in range(0, 40, 4)]
    assert port_log.written == [(0xCF8, 4, word) for word in words]
    assert (cpu.regs["rcx"], cpu.regs["rsi"]) == (0, DATA + 40)


def test_ins_does_not_read_the_port_when_its_target_faults(port_log: PortLog) -> None:
    cpu = port_log.cpu
    assert cpu is not None
    stop = start(cpu, encode(0x6C, 1), rcx=2, rdi=END, rdx=0x60, eflags=2)
    assert (stop.vector, stop.address, port_log.next) == (14, END, 0)


def test_bus_that_takes_many_accesses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, int, int]] = []
    written = bytearray()

    def read_run(_bus: object, port: int, size: int, count: int) -> bytes:
        runs.append((port, size, count))
        return b"\x5a" * (size * count)

    monkeypatch.setattr(pytcg.cpu.NoBus, "read_port_run", read_run, raising=False)
    monkeypatch.setattr(pytcg.cpu.NoBus, "write_port_run",
                        lambda _bus, p, s, data: written.extend(data), raising=False)  # fmt: skip
    cpu = make_cpu()
    start(cpu, encode(0x6C, 2), rcx=3000, rdi=DATA + 1, rdx=0x1F0, eflags=2)
    assert cpu.read(DATA + 1, 6000).count(0x5A) + 2 * (3000 - sum(n for _, _, n in runs)) >= 6000
    assert (cpu.regs["rcx"], cpu.regs["rdi"]) == (0, DATA + 6001)
    assert 0 < len(runs) <= 4 and all(row[:2] == (0x1F0, 2) for row in runs)
    assert cpu.read(DATA, 1) == b"\0" and cpu.read(DATA + 6001, 1) == b"\0"
    cpu.write(DATA, bytes(range(200)))
    start(cpu, encode(0x6E, 4), rcx=50, rsi=DATA, rdx=0xCF8, eflags=2)
    assert bytes(written) in bytes(range(200)) and len(written) >= 192
    assert (cpu.regs["rcx"], cpu.regs["rsi"]) == (0, DATA + 200)
