"""The protocol on a target of a dictionary: packets, errors, junk."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree

import pytest

from pytcg.exec.debugger import Point
from pytcg.gdbstub.description import registers, target_xml
from pytcg.gdbstub.packets import PACKET_SIZE, Decoder, Event, escape, frame, unescape
from pytcg.gdbstub.session import Session
from pytcg.gdbstub.target import Signal, StopReport, TargetError


class Registers(dict[str, int]):
    def __missing__(self, name: str) -> int:
        return 0


class FakeTarget:
    wide = True
    has_ymm = True
    long_code = True
    reversible = False

    def __init__(self) -> None:
        self.registers = Registers()
        self.memory = bytearray(0x1000)
        self.points: list[Point] = []
        self.log: list[str] = []

    def read(self, address: int, size: int, *, physical: bool) -> bytes:
        if address + size > len(self.memory):
            raise TargetError("nothing there")
        return bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes, *, physical: bool) -> None:
        if address + len(data) > len(self.memory):
            raise TargetError("nothing there")
        self.memory[address : address + len(data)] = data

    def insert(self, point: Point) -> None:
        self.points.append(point)

    def remove(self, point: Point) -> bool:
        if point in self.points:
            self.points.remove(point)
            return True
        return False

    def clear(self) -> None:
        self.points.clear()

    def resume(self, *, step: bool, back: bool = False) -> None:
        self.log.append("step" if step else "run")

    def interrupt(self) -> None:
        self.log.append("interrupt")

    def monitor(self, line: str) -> str:
        return f"you said {line}\n"

    def kill(self) -> None:
        self.log.append("kill")

    def detached(self) -> None:
        self.log.append("detached")


class Talk:
    def __init__(self) -> None:
        self.target = FakeTarget()
        self.sent = b""
        self.session = Session(self.target, self._send)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def raw(self, data: bytes) -> bytes:
        self.session.feed(data)
        sent, self.sent = self.sent, b""
        return sent

    def ask(self, packet: str) -> str:
        """All answers, parted by blanks."""
        found = Decoder().feed(self.raw(frame(packet.encode("latin-1"))))
        return " ".join(f.decode("latin-1") for f in found if isinstance(f, bytes))


def test_packets_are_framed_and_acknowledged() -> None:
    talk = Talk()
    assert talk.raw(b"$qC#b4") == b"+$QC01#f5"
    assert talk.raw(b"$qC#b5") == b"-"
    assert talk.raw(b"-") == b"$QC01#f5"
    assert talk.raw(frame(b"QStartNoAckMode")) == b"+" + frame(b"OK")
    assert talk.raw(b"$qC#b4") == b"$QC01#f5"


def test_data_survives_escaping() -> None:
    data = bytes(range(256))
    assert unescape(escape(data)) == data
    talk = Talk()
    packet = b"X10,100:" + escape(data)
    assert talk.raw(frame(packet)) == b"+$OK#9a"
    assert talk.target.memory[0x10:0x110] == data


@pytest.mark.parametrize(("packet", "answer"), [
    ("?", "T05thread:01;"), ("vMustReplyEmpty", ""), ("vCont?", "vCont;c;C;s;S"), ("zz", ""),
    ("m0,4", "00000000"), ("mfff,2", "E14"), ("m0", "E22"), ("mx,y", "E22"), ("M0,2:1234", "OK"),
    ("M0,2:12", "E22"), ("M0,1:zz", "E22"), ("X0,0:", "OK"), ("X0,2:a", "E22"), ("p10", "00" * 8),
    ("p999", "E14"), ("P0=01", "E14"), ("P0=0100000000000000", "OK"), ("Z0,1000,1", "OK"),
    ("Z2,10,0", "E22"), ("Z4,10,8", "OK"), ("Z5,0,1", ""), ("z1,5,1", "E14"), ("Hg0", "OK"),
    ("Hc-1", "OK"), ("Hgp1.1", "OK"), ("Hg7", "E22"), ("T1", "OK"), ("T2", "E22"),
    ("qfThreadInfo", "m01"), ("qsThreadInfo", "l"), ("qAttached", "1"), ("qNonsense", ""),
    ("vCont;c:9", "E22"), ("vCont;x", "E22"), ("bs", "E14"), ("qqemu.PhyMemMode", "0"),
    ("Qqemu.PhyMemMode:1", "OK"), ("Qqemu.PhyMemMode:x", "E22"), ("qqemu.sstep", "0x7"),
    ("qXfer:features:read:other.xml:0,10", "E00"),
    ("qRcmd,6869", "O796f7520736169642068690a OK"), ("qRcmd,6", "E22"),
])  # fmt: skip
def test_answers(packet: str, answer: str) -> None:
    assert Talk().ask(packet) == answer


def test_registers_are_read_and_written_whole() -> None:
    talk = Talk()
    talk.target.registers |= {"rip": 0x1234, "xmm3": 5 << 64, "ymm3": 7 << 128 | 5 << 64}
    data = talk.ask("g")
    total = sum(r.bits for r in registers(wide=True, ymm=True)) // 8
    assert len(data) == 2 * total
    changed = bytearray.fromhex(data)
    changed[0:8] = (99).to_bytes(8, "little")
    assert talk.ask("G" + changed.hex()) == "OK"
    assert talk.target.registers["rax"] == 99
    assert "rbx" not in talk.target.registers  # what is the same is not written


def test_the_target_is_described() -> None:
    for wide in (True, False):
        tree = ElementTree.fromstring(target_xml(wide=wide, ymm=True).partition("dtd\">")[2])
        names = [reg.get("name") for reg in tree.iter("reg")]
        assert names == [r.name for r in registers(wide=wide, ymm=True)]
    talk, text = Talk(), ""
    while True:
        part = talk.ask(f"qXfer:features:read:target.xml:{len(text):x},200")
        text += part[1:]
        if part[0] == "l":
            break
    assert text == target_xml(wide=True, ymm=True)


def test_running_and_stopping() -> None:
    talk = Talk()
    assert talk.ask("qSupported:multiprocess+;xmlRegisters=i386").startswith("PacketSize=4000;")
    assert talk.raw(frame(b"vCont;c:p1.-1")) == b"+"
    assert talk.session.running and talk.target.log == ["run"]
    assert talk.raw(b"\x03") == b"" and talk.target.log[-1] == "interrupt"
    talk.session.stopped(StopReport(Signal.INT))
    assert talk.raw(b"") == frame(b"T02thread:p01.01;")
    assert talk.ask("Z3,2000,4") == "OK"
    assert talk.raw(frame(b"vCont;s:p1.1;c")) == b"+" and talk.target.log[-1] == "step"
    talk.session.stopped(StopReport(Signal.TRAP, "read", 0x2001))
    assert talk.raw(b"") == frame(b"T05thread:p01.01;rwatch:2001;")
    talk.session.stopped(StopReport())  # nobody waits for it
    assert talk.raw(b"") == b""
    assert talk.ask("D;1") == "OK"
    assert talk.target.log[-1] == "detached" and not talk.target.points


def test_the_end_of_the_guest_is_told() -> None:
    talk = Talk()
    talk.raw(frame(b"c"))
    talk.session.exited(3)
    assert talk.raw(b"") == frame(b"W03")


def test_long_packets_are_refused() -> None:
    decoder = Decoder()
    assert list(decoder.feed(frame(b"m" * (PACKET_SIZE + 1)))) == [Event.BAD]
    assert list(decoder.feed(frame(b"m" * PACKET_SIZE))) == [b"m" * PACKET_SIZE]


def test_junk_is_never_more_than_an_answer() -> None:
    rng = random.Random(3)
    heads = [*"?cCsSbgGpPmMZzHTDkXqQv", "vCont;", "qXfer:features:read:", "qRcmd,", "vKill"]
    for _ in range(3000):
        talk = Talk()
        tail = "".join(rng.choice("0123456789abcdef,:;=.-pxZ}\x80\xff*") for _ in
                       range(rng.randrange(20)))  # fmt: skip
        data = (rng.choice(heads) + tail).encode("latin-1")
        talk.raw(frame(data) if rng.random() < 0.8 else data)
        talk.raw(bytes(rng.randrange(256) for _ in range(rng.randrange(30))))
