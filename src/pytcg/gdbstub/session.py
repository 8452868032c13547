"""A debugger's session: GDB's commands, served on a `Target`.

"Debugging with GDB", appendix E; names of our own dialect (``qqemu.PhyMemMode``) are QEMU's. A
packet that isn't understood is answered by an empty one, one that can't be done by ``E14`` (or
``E22`` for bad arguments), as QEMU does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pytcg.exec.debugger import Point
from pytcg.gdbstub.description import target_xml
from pytcg.gdbstub.packets import (
    PACKET_SIZE,
    Decoder,
    Event,
    escape,
    frame,
    unescape,
)
from pytcg.gdbstub.regfile import RegisterFile
from pytcg.gdbstub.target import StopReport, Target, TargetError

_OK: Final = b"OK"
_FAULT: Final = b"E14"  # EFAULT
_INVALID: Final = b"E22"  # EINVAL
_MOST: Final = (PACKET_SIZE - 16) // 2
_KINDS: Final = {"0": "break", "1": "break", "2": "write", "3": "read", "4": "access"}
_NAMES: Final = {"write": b"watch", "read": b"rwatch", "access": b"awatch"}
_STEP_BITS: Final = b"ENABLE=1,NOIRQ=2,NOTIMER=4"


class _BadPacket(Exception):
    """Arguments that are none."""


class Session:
    """One debugger's connection. ``send`` takes bytes for it."""

    def __init__(self, target: Target, send: Callable[[bytes], None]):
        self.target = target
        self._send = send
        self._decoder = Decoder()
        self._last = b""
        self._acks = True
        self._processes = False  # the multiprocess extension: thread ids have a process
        self._physical = False
        self._step_bits = 7
        self.running = False
        self.report = StopReport()
        """Why it last stood still."""
        self._watched: dict[tuple[int, int], set[str]] = {}
        self.closed = False
        """It detached, or killed the guest."""

    # Bytes and packets -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the debugger, in whatever pieces."""
        for found in self._decoder.feed(data):
            if self.closed:
                return
            if isinstance(found, bytes):
                if self._acks:
                    self._send(b"+")
                self._serve(found)
            elif found is Event.BREAK:
                if self.running:
                    self.target.interrupt()
            elif found is Event.BAD:
                self._send(b"-" if self._acks else b"")
            elif self._last and self._acks:
                self._send(self._last)

    def _answer(self, data: bytes) -> None:
        self._last = frame(data)
        self._send(self._last)

    def _serve(self, packet: bytes) -> None:
        if self.running:
            return  # it may only break in
        try:
            answer = self._dispatch(packet)
        except TargetError:
            answer = _FAULT
        except _BadPacket:
            answer = _INVALID
        if answer is not None:
            self._answer(answer)

    def _dispatch(self, packet: bytes) -> bytes | None:
        """The answer; None if it comes later, or was sent."""
        head, text = packet[:1], packet.decode("latin-1")
        if head in (b"q", b"Q"):
            for name, query in _QUERIES.items():
                if text == name or (text.startswith(name) and text[len(name)] in ":,.;="):
                    return query(self, text[len(name) :])
            return b""
        if head == b"X":
            return self._write_binary(packet)
        if head == b"v":
            return self._verb(text)
        command = _COMMANDS.get(text[:1])
        return command(self, text[1:]) if command is not None else b""

    # Stops -------------------------------------------------------------------------------------

    def stopped(self, report: StopReport) -> None:
        """The target stands still, by itself or because it was asked."""
        self.report = report
        if self.running:
            self.running = False
            self._answer(self._stop_reply())

    def exited(self, status: int) -> None:
        """The guest is gone."""
        if not self.closed:
            self.closed = True
            self._answer(b"W%02x" % (status & 0xFF))

    def _stop_reply(self) -> bytes:
        report = self.report
        reply = b"T%02xthread:%s;" % (report.signal, self._thread())
        if report.access:
            kind = self._watch_kind(report)
            reply += b"%s:%x;" % (_NAMES[kind], report.address)
        if report.history:
            reply += b"replaylog:%s;" % report.history.encode()
        return reply

    def _watch_kind(self, report: StopReport) -> str:
        """What the watchpoint that was met was set for."""
        wanted = {report.access, "access"}
        for (address, length), kinds in self._watched.items():
            if address - 15 <= report.address < address + length and kinds & wanted:
                return min(kinds & wanted, key=("write", "read", "access").index)
        return report.access

    def _thread(self) -> bytes:
        return b"p01.01" if self._processes else b"01"

    def _resume(self, *, step: bool, back: bool = False) -> bytes | None:
        if back and not self.target.reversible:
            return _FAULT
        self.running = True
        try:
            self.target.resume(step=step, back=back)
        except TargetError:
            self.running = False
            raise
        return None

    # Commands ----------------------------------------------------------------------------------

    def _reason(self, rest: str) -> bytes:
        return self._stop_reply()

    def _continue(self, rest: str) -> bytes | None:
        self._jump(rest)
        return self._resume(step=False)

    def _step(self, rest: str) -> bytes | None:
        self._jump(rest)
        return self._resume(step=True)

    def _continue_signal(self, rest: str) -> bytes | None:
        return self._continue(rest.partition(";")[2])

    def _step_signal(self, rest: str) -> bytes | None:
        return self._step(rest.partition(";")[2])

    def _jump(self, address: str) -> None:
        if address:
            self.target.registers["rip"] = _number(address)

    def _back(self, rest: str) -> bytes | None:
        if rest not in ("s", "c"):
            return b""
        return self._resume(step=rest == "s", back=True)

    def _verb(self, text: str) -> bytes | None:
        if text == "vCont?":
            return b"vCont;c;C;s;S"
        if text.startswith("vCont;"):
            return self._resume_threads(text[len("vCont;") :])
        if text.startswith("vKill;"):
            self._answer(_OK)
            self.kill("")
            return None
        if text.startswith("vAttach;"):
            return self._stop_reply()
        return b""

    def _resume_threads(self, text: str) -> bytes | None:
        """The first action that is for our thread."""
        for action in text.split(";"):
            verb, _, thread = action.partition(":")
            if not re.fullmatch("[cs]|[CS][0-9a-f]{2}", verb) or not self._is_ours(thread):
                raise _BadPacket
            return self._resume(step=verb[0] in "sS")
        raise _BadPacket

    def _read_registers(self, rest: str) -> bytes:
        return self._file().read_all().hex().encode()

    def _write_registers(self, rest: str) -> bytes:
        self._file().write_all(_bytes(rest))
        return _OK

    def _read_register(self, rest: str) -> bytes:
        return self._file().read(_number(rest)).hex().encode()

    def _write_register(self, rest: str) -> bytes:
        number, _, value = rest.partition("=")
        self._file().write(_number(number), _bytes(value))
        return _OK

    def _file(self) -> RegisterFile:
        return RegisterFile(self.target)

    def _read_memory(self, rest: str) -> bytes:
        address, size = _pair(rest)
        if size > _MOST:
            raise _BadPacket
        return self.target.read(address, size, physical=self._physical).hex().encode()

    def _write_memory(self, rest: str) -> bytes:
        where, _, data = rest.partition(":")
        address, size = _pair(where)
        raw = _bytes(data)
        if len(raw) != size:
            raise _BadPacket
        self.target.write(address, raw, physical=self._physical)
        return _OK

    def _write_binary(self, packet: bytes) -> bytes:
        where, colon, data = packet[1:].partition(b":")
        address, size = _pair(where.decode("latin-1"))
        raw = unescape(data)
        if not colon or len(raw) != size:
            raise _BadPacket
        if raw:
            self.target.write(address, raw, physical=self._physical)
        return _OK

    def _insert(self, rest: str) -> bytes:
        point = _point(rest)
        if point is None:
            return b""
        self.target.insert(point)
        if point[0] != "break":
            self._watched.setdefault(point[1:], set()).add(point[0])
        return _OK

    def _remove(self, rest: str) -> bytes:
        point = _point(rest)
        if point is None:
            return b""
        self._watched.get(point[1:], set()).discard(point[0])
        return _OK if self.target.remove(point) else _FAULT

    def _set_thread(self, rest: str) -> bytes:
        if rest[:1] not in ("c", "g") or not self._is_ours(rest[1:]):
            raise _BadPacket
        return _OK

    def _is_alive(self, rest: str) -> bytes:
        return _OK if self._is_ours(rest) else _INVALID

    def _is_ours(self, thread: str) -> bool:
        """Whether a thread id means ours: any, all, or number 1 (of process 1)."""
        process, dot, number = thread.removeprefix("p").partition(".")
        if not thread.startswith("p"):
            process, number = "1", thread
        elif not dot:
            number = "-1"
        return all(part in ("", "0", "-1") or _number(part) == 1 for part in (process, number))

    def _detach(self, rest: str) -> bytes | None:
        self._answer(_OK)
        self.leave()
        return None

    def leave(self) -> None:
        """The debugger goes: nothing of it stays behind."""
        if self.closed:
            return
        self.closed = True
        self.target.clear()
        if not self.running:
            self.target.detached()

    def kill(self, rest: str) -> None:
        """End the guest."""
        self.closed = True
        self.target.clear()
        self.target.kill()

    # Queries -----------------------------------------------------------------------------------

    def _supported(self, rest: str) -> bytes:
        self._processes = "multiprocess+" in rest
        answer = b"PacketSize=%x;qXfer:features:read+;vContSupported+;multiprocess+" % PACKET_SIZE
        answer += b";QStartNoAckMode+"
        return answer + (b";ReverseStep+;ReverseContinue+" if self.target.reversible else b"")

    def _no_acks(self, rest: str) -> bytes | None:
        self._answer(_OK)
        self._acks = False
        return None

    def _features(self, rest: str) -> bytes:
        found = re.fullmatch(":features:read:target.xml:([0-9a-f]+),([0-9a-f]+)", rest)
        if found is None:
            return b"E00"
        at, size = int(found[1], 16), min(int(found[2], 16), PACKET_SIZE // 2)
        text = target_xml(wide=self.target.wide, ymm=self.target.has_ymm).encode()
        part = text[at : at + size]
        return (b"l" if at + size >= len(text) else b"m") + escape(part)

    def _command(self, rest: str) -> bytes:
        text = self.target.monitor(_bytes(rest[1:]).decode("utf-8", "replace"))
        for line in re.findall(r"[^\n]+\n?|\n", text):
            data = line.encode()
            for at in range(0, len(data), _MOST):
                self._answer(b"O" + data[at : at + _MOST].hex().encode())
        return _OK

    def _thread_info(self, rest: str) -> bytes:
        return b"m" + self._thread()

    def _extra_info(self, rest: str) -> bytes:
        return b"CPU#0 [running]".hex().encode()

    def _physical_mode(self, rest: str) -> bytes:
        return b"1" if self._physical else b"0"

    def _set_physical_mode(self, rest: str) -> bytes:
        if rest not in (":0", ":1"):
            raise _BadPacket
        self._physical = rest == ":1"
        return _OK

    def _set_step_bits(self, rest: str) -> bytes:
        self._step_bits = _number(rest[1:])
        return _OK


def _number(text: str) -> int:
    if not re.fullmatch("[0-9a-fA-F]{1,16}", text):
        raise _BadPacket
    return int(text, 16)


def _pair(text: str) -> tuple[int, int]:
    address, _, size = text.partition(",")
    return _number(address), _number(size)


def _bytes(text: str) -> bytes:
    if len(text) % 2 or not re.fullmatch("[0-9a-fA-F]*", text):
        raise _BadPacket
    return bytes.fromhex(text)


def _point(text: str) -> Point | None:
    """A point of ``type,address,length``; None for a type there is not."""
    kind, _, rest = text.partition(",")
    if kind not in _KINDS:
        return None
    address, length = _pair(rest.partition(";")[0])
    if kind in "01":
        return "break", address, 1
    if not 0 < length <= 1 << 32 or address + length > 1 << 64:
        raise _BadPacket
    return _KINDS[kind], address, length


_Handler = Callable[[Session, str], bytes | None]

_COMMANDS: Final[dict[str, _Handler]] = {
    "?": Session._reason, "c": Session._continue, "C": Session._continue_signal,
    "s": Session._step, "S": Session._step_signal, "b": Session._back,
    "g": Session._read_registers, "G": Session._write_registers,
    "p": Session._read_register, "P": Session._write_register,
    "m": Session._read_memory, "M": Session._write_memory,
    "Z": Session._insert, "z": Session._remove,
    "H": Session._set_thread, "T": Session._is_alive, "D": Session._detach,
    "k": lambda session, rest: session.kill(rest),
}  # fmt: skip
_QUERIES: Final[dict[str, _Handler]] = {
    "qSupported": Session._supported, "QStartNoAckMode": Session._no_acks,
    "qXfer": Session._features, "qRcmd": Session._command,
    "qC": lambda session, rest: b"QC" + session._thread(),
    "qfThreadInfo": Session._thread_info, "qsThreadInfo": lambda session, rest: b"l",
    "qThreadExtraInfo": Session._extra_info, "qAttached": lambda session, rest: b"1",
    "qqemu.PhyMemMode": Session._physical_mode, "Qqemu.PhyMemMode": Session._set_physical_mode,
    "qqemu.sstepbits": lambda session, rest: _STEP_BITS,
    "qqemu.sstep": lambda session, rest: b"0x%x" % session._step_bits,
    "Qqemu.sstep": Session._set_step_bits,
}  # fmt: skip

