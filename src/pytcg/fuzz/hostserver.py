"""A process that runs code on the host CPU: it may die, by code that does what it should not.

Requests and answers are pickles behind their length, on its standard input and output.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
from typing import IO, Any

from pytcg.fuzz import hostcpu, state
from pytcg.fuzz.state import Outcome, State

_NOBODY = 65534
_SECOND = 1.0  # of CPU time, after which code is taken to run for ever
_LENGTH = struct.Struct("<I")


class HostServer:
    """The other end: starts the process, and another when one has died."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, code: bytes, start: State, data: bytes) -> Outcome:
        """What code leaves behind on the host CPU."""
        if self._child is None:
            command = [sys.executable, "-m", "pytcg.fuzz.hostserver"]
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        try:
            send(child.stdin, (code, start, data))
            answer: Outcome = receive(child.stdout)
        except (EOFError, BrokenPipeError):
            self._child = None
            status = child.wait()
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            return Outcome({}, b"", failure=f"the host process's death by {name}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def send(stream: IO[bytes], message: object) -> None:
    raw = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(raw)) + raw)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(_LENGTH.unpack(header)[0]))


def outcome(host: hostcpu.HostCpu, code: bytes, start: State, data: bytes) -> Outcome:
    """Run code in this process."""
    host.data[: len(data)] = data
    before = hostcpu.HostState([start[name] for name in state.REGISTERS], start["rflags"],
                               state.fx_image(start))  # fmt: skip
    after = host.run(code, before)
    fault = host.fault
    registers = dict(zip(state.REGISTERS, after.regs, strict=True))
    registers |= {"rflags": after.flags, **state.fx_registers(after.fx)}
    registers["rip"] = state.CODE + len(code) if fault is None else fault.rip
    return Outcome(registers, bytes(host.data[: len(data)]), fault.vector if fault else None)


def _give_up_rights() -> None:
    """Whatever random code does, it can do little."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve() -> None:
    """Answer until there are no more requests."""
    host = hostcpu.host_cpu()
    host.catch()
    _give_up_rights()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            code, start, data = receive(requests)
            signal.setitimer(signal.ITIMER_VIRTUAL, _SECOND)
            found = outcome(host, code, start, data)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            send(answers, found)


if __name__ == "__main__":
    serve()
