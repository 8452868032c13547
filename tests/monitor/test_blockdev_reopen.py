"""blockdev-reopen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from monitor.station import Station
from monitor.test_block_jobs import folder

__all__ = ["folder"]
Make = Callable[[str], Station]


def node(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    return {"driver": "qcow2", "node-name": name, **more, "file": {
        "driver": "file", "filename": str(folder / f"{name}.qcow2")}}  # fmt: skip


def add(made: Station, options: dict[str, Any]) -> None:
    assert "return" in made.say({"execute": "blockdev-add", "arguments": options})


def reopen(made: Station, *options: dict[str, Any]) -> str:
    """The error, or nothing."""
    answer = made.say({"execute": "blockdev-reopen", "arguments": {"options": options}})
    return str(answer["error"]["desc"]) if "error" in answer else ""


def test_a_node_gets_another_backing_node(station: Make, folder: Path) -> None:
    made = station("")
    add(made, node(folder, "base"))
    add(made, node(folder, "mid", backing="base"))
    graph = made.machine.drives.graph
    mid, base = graph.nodes["mid"], graph.nodes["base"]
    full = mid.pread(0, 1 << 20)
    assert reopen(made, node(folder, "mid")) == "backing is missing for 'mid'"
    assert reopen(made, node(folder, "mid", backing=None)) == "" and mid.backing is None
    assert reopen(made, node(folder, "base", backing="mid")) == ""
    assert base.backing is not None
    assert "create a cycle" in reopen(made, node(folder, "mid", backing="base"))
    assert reopen(made, node(folder, "base", backing=None), node(folder, "mid", backing=None)) == ""
    assert reopen(made, node(folder, "mid", backing="base")) == ""
    assert mid.pread(0, 1 << 20) == full
    made.run("blockdev-del", node_name="mid")
    made.run("blockdev-del", node_name="base")


def test_a_node_becomes_read_only_or_nothing_happens(station: Make, folder: Path) -> None:
    made = station("")
    add(made, node(folder, "base"))
    base = made.machine.drives.graph.nodes["base"]
    assert reopen(made, node(folder, "base", **{"read-only": True})) == "" and base.read_only
    assert reopen(made, node(folder, "base")) == "" and not base.read_only
    base.pwrite(0, b"x")
    wrong = node(folder, "nobody")
    first = node(folder, "base", **{"read-only": True})
    assert reopen(made, first, wrong) == "Failed to find node with node-name='nobody'"
    assert not base.read_only
    assert reopen(made, {**node(folder, "base"), "driver": "qed"}) == (
        "Cannot change the option 'driver'")
    other = node(folder, "base")
    other["file"]["filename"] = "x"
    assert reopen(made, other) == "Cannot change the option 'filename'"
    other = node(folder, "base")
    del other["node-name"]
    assert reopen(made, other) == "node-name not specified"


def test_a_throttle_node_changes_its_group(station: Make, folder: Path) -> None:
    made = station("")
    for name in ("a", "b"):
        made.run("object-add", qom_type="throttle-group", id=name)
    options = {"driver": "throttle", "node-name": "t", "throttle-group": "a", "file": {
        "driver": "null-co", "node-name": "n"}}  # fmt: skip
    add(made, options)
    graph = made.machine.drives.graph
    assert reopen(made, {**options, "throttle-group": "b", "file": "n"}) == ""
    assert graph.nodes["t"].group is graph.groups["b"]  # type: ignore[attr-defined]
    assert "does not exist" in reopen(made, {**options, "throttle-group": "c", "file": "n"})


def test_policies_may_be_given_to_nodes_below(station: Make, folder: Path) -> None:
    made = station("")
    options = node(folder, "mid", discard="ignore")
    options["file"] |= {"detect-zeroes": "off", "discard": "unmap"}
    options["backing"] = {"driver": "qcow2", "detect-zeroes": "off", "file": {
        "driver": "file", "filename": str(folder / "base.qcow2")}}  # fmt: skip
    add(made, options)
    answer = made.say({"execute": "blockdev-add", "arguments": {
        **node(folder, "top"), "backing": {**options["backing"], "detect-zeroes": "on"}}})
    assert "does not support the option 'detect-zeroes'" in answer["error"]["desc"]
