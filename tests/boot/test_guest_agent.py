"""Agents in guests: the distribution's in ours, ours in ours and in QEMU's."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest, guest_disks, initramfs
from pytcg.ga.bundle import bundle

pytestmark = pytest.mark.boot
PYTHON = "/usr/bin/python3"
QEMU_GA = "/usr/sbin/qemu-ga"
LIST_MODULES = """
import runpy, sys
sys.argv = [sys.argv[1], "-V"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
import base64, encodings.ascii, encodings.latin_1, shlex, site, subprocess, zipfile, zipimport
for module in list(sys.modules.values()):
    name = getattr(module, "__file__", None) or ""
    if name.startswith("/usr/lib/"):
        print(name)
"""


def lines_of(*command: str | Path) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def libraries(program: str) -> set[str]:
    words = (line.replace("=>", "").split() for line in lines_of("ldd", program))
    return {word for row in words for word in row if word.startswith("/")}


def archive(agent: Path) -> bytes:
    """A cpio archive with both agents, and as much of the host's Python as ours needs."""
    modules = lines_of(PYTHON, "-I", "-c", LIST_MODULES, agent)
    names = {PYTHON, QEMU_GA, *modules[1:], *libraries(PYTHON), *libraries(QEMU_GA)}
    for name in modules[1:]:
        names |= libraries(name) if name.endswith(".so") else set()
    folders = {str(folder)[1:] for name in names for folder in Path(name).parents}
    return initramfs.newc((
        *(initramfs.directory(name) for name in sorted(folders) if name),
        *(initramfs.executable(name[1:], Path(name).read_bytes()) for name in sorted(names)),
        initramfs.executable("pytcg-ga", agent.read_bytes()),
    ))  # fmt: skip


class Client:
    """The host's side of a port."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(str(path))
        self.socket.sendall(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 7}}\n')
        answer = b""
        while not answer.endswith(b'\xff{"return": 7}\n'):
            answer += self.socket.recv(4096)

    def ask(self, name: str, **arguments: Any) -> Any:
        request = {"execute": name, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self.socket.recv(65536)
        return json.loads(answer)["return"]


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    agent, target = folder / "pytcg-ga", folder / "initrd"
    bundle(agent)
    base = guest_disks.ensure(guest.cache_folder()).read_bytes()
    target.write_bytes(base + archive(agent))
    return target


Machine = Callable[..., Terminal]


@pytest.fixture
def machine(initrd: Path, tmp_path: Path, terminals: Machine) -> Machine:
    """A guest with a port for each agent."""

    def start(**program: Any) -> Terminal:
        options = ["-device", "virtio-serial-pci"]
        for name in ("theirs", "ours"):
            options += ["-chardev", f"socket,path={tmp_path / name},server=on,wait=off,id={name}",
                        "-device", f"virtserialport,chardev={name},name=org.{name}"]
        terminal = terminals(
            "-m", "512", "-nographic", "-no-reboot", *options,
            "-kernel", str(guest.cache_folder() / guest.KERNEL), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet", **program,
        )  # fmt: skip
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        return terminal

    return start


@pytest.mark.parametrize("program", [{}, {"program": ("qemu-system-x86_64", "-accel", "tcg")}],
                         ids=["pytcg", "qemu"])  # fmt: skip
def test_both_agents_answer_the_host(machine: Machine, tmp_path: Path, program: dict[str, Any]
                                     ) -> None:  # fmt: skip
    terminal = machine(**program)
    terminal.type(f"mkdir /tmp/a /tmp/b; {QEMU_GA} -p /dev/vport?p1 -t /tmp/a & "
                  f"{PYTHON} /pytcg-ga -p /dev/vport?p2 -t /tmp/b &\n")  # fmt: skip
    theirs, ours = Client(tmp_path / "theirs"), Client(tmp_path / "ours")
    for name in ("get-host-name", "get-osinfo", "get-vcpus", "get-timezone", "get-users",
                 "fsfreeze-status", "get-memory-block-info", "get-fsinfo"):  # fmt: skip
        assert theirs.ask(f"guest-{name}") == ours.ask(f"guest-{name}")
    for client in (theirs, ours):
        handle = client.ask("guest-file-open", path="/tmp/file", mode="w+")
        client.ask("guest-file-write", handle=handle, **{"buf-b64": "aGVsbG8K"})
        client.ask("guest-file-close", handle=handle)
        terminal.type("cat /tmp/file; rm /tmp/file\n")
        terminal.wait_for(b"^hello", ANSWER_SECONDS)
        pid = client.ask("guest-exec", path="uname", arg=["-n"], **{"capture-output": True})["pid"]
        while not (status := client.ask("guest-exec-status", pid=pid))["exited"]:
            pass
        assert status["out-data"] == "Z3Vlc3QK" and status["exitcode"] == 0
    ours.socket.close()
    assert Client(tmp_path / "ours").ask("guest-ping") == {}  # the next client
