"""The same command line and the same dialogue, with QEMU and with pytcg."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boot.terminal import SOURCES

QEMU = shutil.which("qemu-system-x86_64")
OURS = [sys.executable, "-m", "pytcg.cli.system"]
pytestmark = pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
Ask = str | tuple[str, dict[str, Any]]


def answers(program: list[str], options: list[str], asked: list[Ask]) -> list[dict[str, Any]]:
    """What a monitor on stdio says, events apart."""
    requests: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
    for ask in asked:
        name, arguments = (ask, {}) if isinstance(ask, str) else ask
        requests.append({"execute": name, "arguments": arguments})
    requests.append({"execute": "quit"})
    typed = "\n".join(map(json.dumps, requests))
    done = subprocess.run(
        [*program, "-S", "-display", "none", "-m", "16", "-qmp", "stdio", *options], input=typed,
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": SOURCES},
        check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if "return" in line or "error" in line][1:-1]


def both(options: list[str], asked: list[Ask]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    assert QEMU is not None
    made = answers([QEMU], options, asked), answers(OURS, options, asked)
    assert len(made[0]) == len(made[1]) == len(asked), made
    return made


def test_character_devices(tmp_path: Path) -> None:
    options = [
        "-nodefaults", "-chardev", "null,id=a", "-serial", "chardev:a",
        "-chardev", f"socket,id=s,path={tmp_path}/s,server=on,wait=off",
        "-chardev", "ringbuf,id=rb", "-chardev", "null,id=mx,mux=on",
        "-device", "isa-serial,chardev=mx", "-device", "isa-debugcon,chardev=mx",
        "-chardev", f"file,id=f,path={tmp_path}/f", "-serial", "udp:127.0.0.1:9",
        "-uuid", "01234567-89ab-cdef-0123-456789abcdef", "-name", "it",
    ]  # fmt: skip
    theirs, ours = both(options, ["query-chardev", "query-uuid", "query-name"])
    for made in (theirs, ours):
        made[0]["return"].sort(key=lambda row: row["label"])
    assert ours == theirs


def test_the_processor_has_a_thread() -> None:
    theirs, ours = both([], ["query-cpus-fast"])
    assert ours[0]["return"][0].keys() == theirs[0]["return"][0].keys()


@pytest.mark.parametrize("line", [
    "-chardev null,id=a -chardev null,id=a",
    "-chardev null",
    "-chardev foo,id=a",
    "-chardev null,id=a,foo=1",
    "-chardev null,id=a -chardev null,id=b -device isa-debugcon,chardev=c",
    "-nodefaults -chardev null,id=a -device isa-serial,chardev=a -device isa-debugcon,chardev=a",
    "-mon mode=control",
    "-chardev null,id=a -mon chardev=a,mode=foo",
    "-chardev file,id=f",
    "-chardev mux,id=m",
    "-chardev udp,id=u",
    "-chardev socket,id=s,host=h",
    "-chardev null,id=a,logfile=/nowhere/a",
    "-chardev socket,id=a,path=/nowhere/a",
])  # fmt: skip
def test_command_lines_that_are_refused(line: str) -> None:
    told = []
    assert QEMU is not None
    for program in ([QEMU], OURS):
        done = subprocess.run(
            [*program, "-S", "-display", "none", "-m", "16", *line.split()], capture_output=True,
            text=True, timeout=120, env={**os.environ, "PYTHONPATH": SOURCES}, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 1
        text = done.stderr.splitlines()[0].partition(": ")[2]
        told.append(text.partition(": ")[2] if text.startswith("-device") else text)
    assert told[1] == told[0]


def human(line: str) -> Ask:
    return "human-monitor-command", {"command-line": line}


HUMAN_LINES = (
    "info status", "info name", "info uuid", "info kvm", "info mem", "info tlb", "info mice",
    "p/x 0x10+2*3", "p 10", "p/d -1", "p/u -1", "p/o 8", "p/c 65", "p $eip", "p 1+(", "p $nix",
    "x/3i $eip", "xp/4wx 0", "xp/2gd 0xfffffff0", "xp/2c 0xffff0", "xp/20xb 0xffff0",
    "xp/3ho 0xffff0", "xp/4uw 0xffff0", "xp/1i 0xfffffff0", "xp/8c 0xffff0", "i /b 0x3f8",
    "o /b 0x80 1", "o 0x80", "sendkey ctrl-alt-x", "sendkey foo", "foo", "help stop", "stop a",
    "xp",
    "screendump", "info foo", "help info status", "stop", "gva2gpa 0x1234", "sendkey",
)  # fmt: skip


def test_lines_of_the_human_monitor() -> None:
    asked = [human(line) for line in HUMAN_LINES]
    theirs, ours = both(["-name", "it"], asked)
    each = zip(HUMAN_LINES, ours, theirs, strict=True)
    wrong = {line: (mine, yours) for line, mine, yours in each if mine != yours}
    assert not wrong


def test_registers_look_as_they_do_there() -> None:
    theirs, ours = both([], [human("info registers")])
    texts = [made[0]["return"].replace("\r", "") for made in (theirs, ours)]
    lines = [[line for line in text.splitlines() if not line.startswith(("EAX=", "FCW="))]
             for text in texts]  # fmt: skip
    assert lines[1] == lines[0]
