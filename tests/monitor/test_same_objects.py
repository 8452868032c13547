"""Objects, character devices and cards that come and go: one dialogue, QEMU's answers and ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station

Make = Callable[[str], Station]


def ask(command: str, /, **arguments: Any) -> dict[str, Any]:
    return {"execute": command, "arguments": arguments}


def plug(**values: Any) -> dict[str, Any]:
    return ask("device_add", **values)


def make(kind: str, name: str, **values: Any) -> dict[str, Any]:
    return {"execute": "object-add", "arguments": {"qom-type": kind, "id": name, **values}}


def wire(name: str, kind: str, **data: Any) -> dict[str, Any]:
    return ask("chardev-add", id=name, backend={"type": kind, "data": data})


def line(text: str) -> dict[str, Any]:
    return {"execute": "human-monitor-command", "arguments": {"command-line": text}}


OBJECTS = (
    make("rng-random", "o", filename="/dev/urandom"),
    make("rng-random", "o"), make("nix", "n"), make("rng-random", "x", nix=1),
    make("rng-random", "x", filename="/nowhere"),
    {"execute": "object-add", "arguments": {"qom-type": "rng-builtin"}},
    plug(driver="virtio-rng-pci", id="r", rng="o", addr="7"),
    plug(driver="virtio-rng-pci", id="r", addr="8"),
    plug(driver="virtio-rng-pci", id="q", period=0),
    ask("object-del", id="o"), ask("object-del", id="nix"),
    make("iothread", "io"), make("secret", "s"), make("secret", "s", data="x"),
    make("memory-backend-ram", "m", size=1 << 20), make("memory-backend-file", "f"),
    plug(driver="ivshmem-plain", id="iv", memdev="m"),
    ask("object-del", id="m"), ask("object-del", id="io"), ask("object-del", id="s"),
    ask("device_del", id="r"), ask("device_del", id="r"), ask("device_del", id="nix"),
    plug(driver="nix"), plug(driver="edu", id="e", addr="4"), plug(driver="edu", addr="4.1"),
    plug(driver="edu", id="4x"), plug(driver="edu", id="e2", addr="4"), plug(driver="isa-serial"),
    line("object_add rng-builtin,id=b"), line("object_del b"), line("object_del b"),
    line("device_add edu,id=zz"), line("device_del qq"), line("device_add nix"),
)  # fmt: skip

CHARACTERS = (
    wire("a", "null"), wire("a", "null"), wire("b", "nix"), wire("f3", "file"),
    wire("f", "file", out="/dev/null"), wire("r", "ringbuf", size=100),
    wire("r", "ringbuf", size=64), wire("m", "mux", chardev="a"),
    ask("chardev-remove", id="a"), ask("chardev-remove", id="r"), ask("chardev-remove", id="r"),
    line("chardev-add null,id=zz"), line("chardev-add null"), line("chardev-add nix,id=x"),
    line("chardev-remove zz"),
)  # fmt: skip


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
@pytest.mark.parametrize("dialogue", [OBJECTS, CHARACTERS], ids=["objects", "characters"])
def test_the_same_answers(station: Make, dialogue: tuple[dict[str, Any], ...]) -> None:
    made = station("")
    theirs = ask_qemu([], dialogue)
    ours = [made.say(request) for request in dialogue]
    for request, their, our in zip(dialogue, theirs, ours, strict=True):
        assert our == their, json.dumps(request)


def test_a_socket_that_was_added_serves_a_port_that_was_added(station: Make, tmp_path: Path
                                                              ) -> None:  # fmt: skip
    made = station("-device virtio-serial-pci")
    path = str(tmp_path / "s")
    made.run("chardev-add", id="c", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": path}}}})  # fmt: skip
    made.say(plug(driver="virtserialport", chardev="c", id="p", name="n"))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        made.until(lambda: made.rack.find("p").device.host_open)
    made.run("device_del", id="p")
    made.run("chardev-remove", id="c")


def test_lists_of_objects(station: Make) -> None:
    made = station("")
    made.say(make("iothread", "io", **{"poll-max-ns": 5}))
    made.say(make("memory-backend-ram", "m", size=1 << 20))
    assert made.run("query-iothreads")[0]["poll-max-ns"] == 5
    assert [row["id"] for row in made.run("query-memdev")] == ["m", "pc.ram"]
    assert "poll-max-ns=5" in made.line("info iothreads")
    assert "memory backend: m\n  size:  1048576\n" in made.line("info memdev")
    assert {"name": "io", "type": "child<iothread>"} in made.run("qom-list", path="/objects")
    assert made.run("qom-get", path="/objects/m", property="size") == "1048576"
