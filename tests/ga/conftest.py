"""Agents as processes, ours and the distribution's, and a client."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCES = str(Path(__file__).parents[2] / "src")
SECONDS = 30


class Client:
    """Asks one agent."""

    def __init__(self, path: Path) -> None:
        end = time.monotonic() + SECONDS
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(SECONDS)
            try:
                self.socket.connect(str(path))
                return
            except OSError:
                self.socket.close()
                assert time.monotonic() < end, path
                time.sleep(0.02)

    def raw(self, data: bytes, answers: int = 1) -> bytes:
        """Bytes for so many lines of answers."""
        self.socket.sendall(data)
        got = b""
        while got.count(b"\n") < answers:
            piece = self.socket.recv(1 << 20)
            assert piece, got
            got += piece
        return got

    def ask(self, name: str, **arguments: Any) -> Any:
        """What a command returns, or its error's description."""
        spelt = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = {"execute": name} | ({"arguments": spelt} if spelt else {})
        answer = json.loads(self.raw(json.dumps(request).encode() + b"\n"))
        return answer["return"] if "return" in answer else answer["error"]["desc"]


Start = Callable[..., Client]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an agent: `start(program word, …, option, …)`; ours if no program is named."""
    processes: list[subprocess.Popen[bytes]] = []
    foreign: list[subprocess.Popen[bytes]] = []

    def run(*options: str, program: tuple[str, ...] = ()) -> Client:
        number = len(processes)
        state, path = tmp_path / f"state{number}", tmp_path / f"ga{number}"
        state.mkdir()
        processes.append(subprocess.Popen(
            [*(program or (sys.executable, "-m", "pytcg.ga")), "-m", "unix-listen", "-p", path,
             "-t", state, *options], env={**os.environ, "PYTHONPATH": SOURCES}))  # fmt: skip
        if program:
            foreign.append(processes[-1])
        return Client(path)

    yield run
    for process in processes:
        # qemu-ga may miss a SIGTERM while it talks to a program that it has started.
        process.kill() if process in foreign else process.terminate()
    for process in processes:
        status = process.wait(SECONDS)
        assert status == 0 or process in foreign
