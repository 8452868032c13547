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
