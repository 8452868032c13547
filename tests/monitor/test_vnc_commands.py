"""The monitors' commands for VNC, as QEMU answers them, and a viewer that meets what they set."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from boot.terminal import SOURCES
from monitor.test_qmp import Emulator
from monitor.test_same_as_qemu import OURS, QEMU, Ask, both
from nbd.nbd_certificates import make_certificates
from ui.rfb_client import RfbClient

needs_qemu = pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")


def ask(name: str, **arguments: Any) -> Ask:
    return name, arguments


@needs_qemu
def test_query_and_passwords_answer_as_qemu(tmp_path: Path) -> None:
    theirs, ours = both(
        ["-vga", "std", "-vnc", f"unix:{tmp_path}/vnc,password=on"],
        ["query-vnc", "query-vnc-servers",
         ask("set_password", protocol="vnc", password="x", connected="fail"),
         ask("set_password", protocol="vnc", password="x", connected="zz"),
         ask("set_password", protocol="foo", password="x"),
         ask("set_password", protocol="spice", password="x"),
         ask("set_password", protocol="vnc", password="x", display="foo"),
         ask("set_password", protocol="vnc"),
         ask("expire_password", protocol="vnc", time="now", display="foo"),
         ask("expire_password", protocol="vnc", time="12", display="default"),
         ask("change-vnc-password", password="a"), ask("change-vnc-password")],
    )  # fmt: skip
    assert ours == theirs


@needs_qemu
@pytest.mark.parametrize("options", [["-vnc", "none"], [], ["-vnc", "unix:{}/a,id=me"]])
def test_servers_without_passwords(tmp_path: Path, options: list[str]) -> None:
    words = [word.format(tmp_path) for word in options]
    asked: list[Ask] = ["query-vnc", "query-vnc-servers", ask("change-vnc-password", password="a")]
    theirs, ours = both(["-vga", "std", *words], asked)
    assert ours == theirs


@needs_qemu
def test_tls_is_told_as_qemu_tells_it(tmp_path: Path) -> None:
    make_certificates(tmp_path / "pki")
    theirs, ours = both(
        ["-vga", "std", "-object", f"tls-creds-x509,id=t,dir={tmp_path}/pki,endpoint=server",
         "-vnc", f"unix:{tmp_path}/vnc,tls-creds=t,password=on"],
        ["query-vnc", "query-vnc-servers"],
    )  # fmt: skip
    assert ours == theirs


LINES = ["info vnc", "change vnc password abc", "set_password vnc foo", "set_password xx foo",
         "set_password vnc foo fail", "expire_password vnc never", "change vnc", "set_password"]


@needs_qemu
@pytest.mark.parametrize("password", ["", ",password=on"])
def test_the_human_monitor_says_what_qemu_says(tmp_path: Path, password: str) -> None:
    option = f"unix:{tmp_path}/vnc{password}"
    typed = "\n".join([*LINES, "quit", ""])
    said = []
    for program in ([QEMU], OURS):
        done = subprocess.run(
            [*program, "-S", "-nodefaults", "-vga", "std", "-m", "16", "-monitor", "stdio", "-vnc",
             option], input=typed, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )  # fmt: skip
        plain = re.sub(r"\x1b\[\d*[A-Z]", "", done.stdout + done.stderr).replace("\r", "")
        if program is OURS:  # which does not echo behind the prompt what comes all at once
            plain = plain.replace("(qemu) ", "")
        said.append(sorted(line for line in plain.splitlines() if not line.startswith("(qemu)")
                           and line not in ["", *LINES, "quit"] and "type 'help'" not in line))
    assert said[1] == said[0]


def test_a_password_set_by_a_monitor_lets_a_viewer_in(tmp_path: Path) -> None:
    path = tmp_path / "vnc"
    secret = tmp_path / "secret"
    secret.write_bytes(b"first")
    emulator = Emulator(tmp_path, "-S", "-object", f"secret,id=s,file={secret}",
                        "-vnc", f"unix:{path},password-secret=s")  # fmt: skip
    qmp = socket.socket(socket.AF_UNIX)
    qmp.connect(str(emulator.path))
    file = qmp.makefile("rw")

    def execute(name: str, **arguments: str) -> Any:
        file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        file.flush()
        while True:
            answer = json.loads(file.readline())
            if "return" in answer or "error" in answer:
                return answer["return"]

    def look(password: bytes) -> RfbClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return RfbClient(sock, 0, password=password)

    try:
        file.readline()
        execute("qmp_capabilities")
        look(b"first").close()
        execute("set_password", protocol="vnc", password="second")
        with pytest.raises(PermissionError):
            look(b"first")
        viewer = look(b"second")
        assert len(execute("query-vnc")["clients"]) == 1
        viewer.close()
        execute("expire_password", protocol="vnc", time=str(int(time.time()) - 1))
        with pytest.raises(PermissionError):
            look(b"second")
        execute("expire_password", protocol="vnc", time="+100")
        look(b"second").close()
    finally:
        emulator.close()
