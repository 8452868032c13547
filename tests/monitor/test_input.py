"""Keys and pointers by the monitors: they come to the devices whose drivers run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hw.test_virtio_input import ABS, KEY, REL, SYN, Guest
from monitor.station import Station
from monitor.test_same_as_qemu import QEMU, both
from pytcg.hw.virtio.input import VirtioTablet
from pytcg.ui.console import Console


def with_console(made: Station) -> Station:
    board = made.board
    inputs = board.power.keyboard
    made.machine.console = Console(made.loop.lock, None, inputs.keyboard,  # type: ignore[arg-type]
                                   inputs.mouse, board.inputs)  # fmt: skip
    return made


def key(name: str | int, *, down: bool) -> dict[str, object]:
    kind = "number" if isinstance(name, int) else "qcode"
    return {"type": "key", "data": {"down": down, "key": {"type": kind, "data": name}}}


def test_ps2_devices_take_what_is_sent(station: Callable[[str], Station]) -> None:
    made = with_console(station(""))
    assert made.refused("input-send-event", events=[]) == "VM not running"
    made.run("cont")
    inputs = made.board.power.keyboard
    assert inputs.mouse is not None
    made.run("input-send-event", events=[key("a", down=True), key(0x9C, down=False)])
    assert bytes(inputs.keyboard.queue) in (b"\x1c\xe0\xf0\x5a", b"\xe0\xf0\x5a")
    inputs.mouse.write(0xF4)
    inputs.mouse.queue.clear()
    made.run("input-send-event", events=[
        {"type": "rel", "data": {"axis": "x", "value": 5}},
        {"type": "btn", "data": {"button": "right", "down": True}}])  # fmt: skip
    assert bytes(inputs.mouse.queue) == b"\x08\x05\x00\x0a\x00\x00"
    inputs.mouse.queue.clear()
    made.line("mouse_move -1 2")
    made.line("mouse_button 0")
    assert bytes(inputs.mouse.queue) == b"\x3a\xff\xfe\x08\x00\x00"
    assert "does not accept" in made.refused(
        "input-send-event", events=[key("a", down=True), key(0x7FFF, down=True)])
    assert made.refused("input-send-event", device="x", events=[]) == "Device 'x' not found"
    made.machine.console = None
    assert "no console" in made.refused("send-key", keys=[{"type": "qcode", "data": "a"}])


def test_a_tablet_takes_places_once_its_driver_runs(station: Callable[[str], Station]) -> None:
    made = with_console(station("-device virtio-tablet-pci -device virtio-mouse-pci"))
    assert made.line("info mice").splitlines()[0] == "* Mouse #2: QEMU PS/2 Mouse"
    tablet, = (each for each in made.board.inputs if isinstance(each, VirtioTablet))
    guest = Guest(tablet)
    made.run("cont")
    assert made.line("info mice").splitlines()[0] == "* Mouse #3: QEMU Virtio Tablet (absolute)"
    made.run("input-send-event", events=[
        {"type": "abs", "data": {"axis": "x", "value": 0x7FFF}},
        {"type": "abs", "data": {"axis": "y", "value": 100}},
        {"type": "btn", "data": {"button": "left", "down": True}}])  # fmt: skip
    events = guest.take(10)
    assert events[-4:] == [(ABS, 0, 0x7FFF), (ABS, 1, 100), (KEY, 0x110, 1), (SYN, 0, 0)]
    made.run("input-send-event", events=[
        {"type": "btn", "data": {"button": "wheel-up", "down": True}}])  # fmt: skip
    assert (REL, 8, 1) in guest.take(5)


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_mice_as_qemu_tells_them() -> None:
    theirs, ours = both(["-vga", "std"], [
        "query-mice", ("input-send-event", {"events": [{"type": "foo", "data": {}}]}),
        ("input-send-event", {"events": [key("a", down=True), key("a", down=False)]}),
    ])  # fmt: skip
    assert ours == theirs
