"""Members in QEMU's order: lines as QEMU 7.2 prints them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from monitor.station import Station
from pytcg.monitor.order import ordered

LINES = (
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_JOB_READY", "data": '
    '{"device": "source", "len": 131072, "offset": 131072, "speed": 0, "type": "mirror"}}',
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "JOB_STATUS_CHANGE", "data": '
    '{"status": "created", "id": "source"}}',
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": '
    '{"guest": false, "reason": "host-qmp-quit"}}',
    '{"id": "x", "error": {"class": "CommandNotFound", "desc": "no"}}',
)


@pytest.mark.parametrize("line", LINES)
def test_members_stand_where_qemu_puts_them(line: str) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(each) for key, each in reversed(value.items())}
        return value

    assert json.dumps(ordered(turned(json.loads(line)))) == line


def test_what_is_sent_is_in_that_order(station: Callable[[str], Station]) -> None:
    made = station("")
    greeting = made.client.said[0]["QMP"]
    assert list(greeting) == ["version", "capabilities"]
    assert list(greeting["version"]["qemu"]) == ["micro", "minor", "major"]
    assert list(made.run("query-status")) == ["status", "singlestep", "running"]
