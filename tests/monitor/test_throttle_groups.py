"""throttle-group objects, nodes and drives under their limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from monitor.station import Station
from monitor.test_block_jobs import folder

__all__ = ["folder"]
Make = Callable[[str], Station]
NODE = {"driver": "throttle", "node_name": "t", "throttle_group": "tg",
        "file": {"driver": "null-co", "node-name": "n", "size": 1 << 20}}  # fmt: skip


def test_a_node_keeps_its_group_s_limits(station: Make, folder: Path) -> None:
    made = station("")
    assert made.refused("blockdev-add", **NODE) == "Throttle group 'tg' does not exist"
    made.run("object-add", qom_type="throttle-group", id="tg", limits={"iops-total": 20})
    made.run("blockdev-add", **NODE)
    node = made.machine.drives.graph.nodes["t"]
    assert node.format_name == "throttle"
    began = time.monotonic()
    for _ in range(7):  # a tenth of a second's worth at once, the rest one by one
        node.pread(0, 512)
    assert time.monotonic() - began > 0.15
    told = made.run("qom-get", path="/objects/tg", property="limits")
    assert told["iops-total"] == 20 and told["bps-total"] == 0 and len(told) == 19
    made.run("qom-set", path="tg", property="limits", value={"iops-total": 0, "bps-read": 4096})
    told = made.run("qom-get", path="/objects/tg", property="limits")
    assert (told["iops-total"], told["bps-read"]) == (0, 4096)
    assert "cannot be used at the same time" in made.refused(
        "qom-set", path="/objects/tg", property="limits", value={"bps-total": 1})
    assert made.run("qom-get", path="/objects/tg", property="limits") == told
    made.run("blockdev-del", node_name="t")
    made.run("object-del", id="tg")
    assert made.refused("blockdev-add", **NODE) == "Throttle group 'tg' does not exist"


def test_what_is_no_limit_is_refused(station: Make, folder: Path) -> None:
    made = station("")
    for limits, error in (
        ({"x-bps-total": 1, "x-bps-read": 1}, "cannot be used at the same time"),
        ({"x-bps-total-max": 1}, "require corresponding"),
        ({"x-fly": 1}, "Parameter 'x-fly' is unexpected"),
    ):  # fmt: skip
        request = {"execute": "object-add",
                   "arguments": {"qom-type": "throttle-group", "id": "a", **limits}}
        assert error in made.say(request)["error"]["desc"]
