"""The agent's state, its settings, and the requests it serves."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

from pytcg.ga import cpus, disks, files, filesystems, network, processes, system, users
from pytcg.ga.command import COMMANDS, answer, command
from pytcg.ga.wire import Splitter

VERSION = "0.1.0"
FIRST_HANDLE = 1000
UNSUPPORTED = frozenset(("guest-get-devices",))
MODULES = (cpus, disks, files, filesystems, network, processes, system, users)


class StartError(Exception):
    """The agent can't start; the text says why."""


class Agent:
    """One agent. ``root`` is put in front of every path of the system: `""`, but in tests."""

    def __init__(self, state_folder: str = "/var/run", *, blocked: frozenset[str] = frozenset(),
                 freeze_hook: str = "", root: str = "", log: TextIO = sys.stderr,
                 verbose: bool = False) -> None:  # fmt: skip
        self.blocked = blocked | UNSUPPORTED
        self.freeze_hook = freeze_hook
        self.root = root
        self.verbose = verbose
        self._log = log
        self._state_path = os.path.join(state_folder, "qga.state")
        self._frozen_path = os.path.join(state_folder, "qga.state.isfrozen")
        self.frozen = os.path.exists(self._frozen_path)
        self.files: dict[int, files.OpenFile] = {}
        self.processes: dict[int, processes.Process] = {}
        self._next_handle = self._load_state()
        self._save_state()

    def path(self, name: str) -> str:
        """A file of the system."""
        return self.root + name

    def log(self, level: str, text: str) -> None:
        """A line in the log; nothing while file systems are frozen, the log may lie there."""
        if not self.frozen and (self.verbose or level != "debug"):
            print(f"{time.time():.6f}: {level}: {text}", file=self._log, flush=True)

    # --- state that outlives the agent ---------------------------------------------------------

    def _load_state(self) -> int:
        try:
            with open(self._state_path, encoding="ascii", errors="replace") as file:
                for line in file:
                    key, _, value = line.strip().partition("=")
                    if key == "fd_counter" and value.isdecimal():
                        return int(value)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StartError(f"failed to load persistent state: {error.strerror}") from error
        return FIRST_HANDLE

    def _save_state(self) -> None:
        try:
            with open(self._state_path, "w", encoding="ascii") as file:
                file.write(f"[global]\nfd_counter={self._next_handle}\n")
        except OSError as error:
            raise StartError(f"unable to create state file at path {self._state_path}:"
                             f" {error.strerror}") from error  # fmt: skip

    def new_handle(self) -> int:
        """A number that no file had before, not even one of an agent before this one."""
        handle = self._next_handle
        self._next_handle += 1
        self._save_state()
        return handle

    def set_frozen(self, *, frozen: bool) -> None:
        """File systems are frozen from now on: no log, and few commands."""
        if frozen:
            with open(self._frozen_path, "w", encoding="ascii"):
                pass
        self.frozen = frozen
        if not frozen and os.path.exists(self._frozen_path):
            os.unlink(self._frozen_path)

    # --- requests ------------------------------------------------------------------------------

    def serve(self, splitter: Splitter, data: bytes) -> bytes:
        """The answers to what a client sent."""
        out = b""
        for request in splitter.feed(data):
            name = request.get("execute") if isinstance(request, dict) else None
            self.log("debug", f"received: {name}")
            response = answer(self, request)
            if response is not None:
                marked = name == "guest-sync-delimited" and "return" in response
                text = json.dumps(response, ensure_ascii=False).encode("utf-8", "replace")
                out += (b"\xff" if marked else b"") + text + b"\n"
        return out

    def close(self) -> None:
        """Close what clients left open."""
        for file in self.files.values():
            file.close()


@command("guest-sync-delimited", {"id": int})
@command("guest-sync", {"id": int})
def sync(agent: Agent, id: int) -> int:
    """The number, so that the client knows where in the stream it is."""
    del agent
    return id


@command("guest-ping")
def ping(agent: Agent) -> None:
    """The agent is there."""
    del agent


@command("guest-info")
def info(agent: Agent) -> dict[str, Any]:
    """The version, and the commands."""
    rows = [{"name": row.name, "enabled": row.name not in agent.blocked,
             "success-response": row.answers} for row in COMMANDS.values()]  # fmt: skip
    return {"version": VERSION, "supported_commands": rows}
