"""guest-exec: programs that the host runs, beside the agent."""

from __future__ import annotations

import base64
import os
import threading
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import CommandError, command, from_base64

if TYPE_CHECKING:
    import subprocess
    from typing import IO

    from pytcg.ga.agent import Agent

OUTPUT_MOST = 16 << 20  # bytes kept of each stream
CHUNK = 65536


class Output:
    """One stream, read by a thread: the program never waits for the host to ask."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.data = bytearray()
        self.truncated = False
        self._stream = stream
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with self._stream:
            while piece := os.read(self._stream.fileno(), CHUNK):
                room = OUTPUT_MOST - len(self.data)
                self.data += piece[:room]
                self.truncated |= len(piece) > room


class Process:
    """A program, and what it printed."""

    def __init__(self, words: list[str], environment: dict[str, str] | None, stdin: bytes, *,
                 capture: bool) -> None:  # fmt: skip
        import subprocess

        output = subprocess.PIPE if capture else subprocess.DEVNULL
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            words, env=environment, stdout=output, stderr=output,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        )  # fmt: skip
        if stdin:
            threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()
        self.pid = self._process.pid
        self.outputs: dict[str, Output] = {}
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            if stream is not None:
                self.outputs[name] = Output(stream)

    def _feed(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stream:
                stream.write(data)
        except BrokenPipeError:
            pass  # it didn't want to know

    def ended(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs or prints."""
        if any(output.thread.is_alive() for output in self.outputs.values()):
            return None
        return self._process.poll()


@command("guest-exec", {"path": str, "arg?": [str], "env?": [str], "input-data?": str,
                        "capture-output?": bool})  # fmt: skip
def execute(agent: Agent, path: str, arg: list[str] | None = None,
            env: list[str] | None = None, input_data: str = "", *,
            capture_output: bool = False) -> dict[str, int]:  # fmt: skip
    """Start a program; its pid."""
    stdin = from_base64(input_data)
    environment = None if env is None else dict(row.partition("=")[::2] for row in env)
    try:
        process = Process([path, *(arg or ())], environment, stdin, capture=capture_output)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CommandError(f"Guest agent command failed, error was 'Failed to execute child"
                           f" process “{path}” ({reason})'") from error  # fmt: skip
    agent.processes[process.pid] = process
    return {"pid": process.pid}


@command("guest-exec-status", {"pid": int})
def status(agent: Agent, pid: int) -> dict[str, Any]:
    """Whether it has ended; then how, and what it printed, once."""
    process = agent.processes.get(pid)
    if process is None:
        raise CommandError("Invalid parameter 'pid'")
    code = process.ended()
    if code is None:
        return {"exited": False}
    del agent.processes[pid]
    result: dict[str, Any] = {"exited": True}
    result["exitcode" if code >= 0 else "signal"] = abs(code)
    for name, output in process.outputs.items():
        if output.data:
            result[f"{name}-data"] = base64.b64encode(output.data).decode()
            result[f"{name}-truncated"] = output.truncated
    return result
