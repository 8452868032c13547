"""QMP's commands for keys and pointers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.hw.input.ps2_mouse import Button
from pytcg.hw.virtio.input import ABSOLUTE_MAX, VirtioMouse, VirtioTablet
from pytcg.machine.runner import RunState
from pytcg.monitor.command import Command, CommandError
from pytcg.ui.keys import NUMBERS

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine
    from pytcg.ui.console import Console

PS2_MOUSE: Final = 2  # its number, as QEMU's: the keyboards come before it
PLACES: Final = (ABSOLUTE_MAX + 1, ABSOLUTE_MAX + 1)
_BUTTONS: Final = {button.name.lower(): int(button) for button in Button if button.name}
_WHEEL: Final = {"wheel-up": -1, "wheel-down": 1}
DEFAULT_HOLD: Final = 100  # milliseconds a key of send-key stays down


def key_name(key: dict[str, Any]) -> str:
    """The key that a KeyValue means; CommandError."""
    data = key["data"]
    name = NUMBERS.get(data) if key["type"] == "number" else str(data)
    if name is None:
        raise CommandError(f"Parameter 'data' does not accept value '{data}'")
    return name


def console_of(machine: Machine) -> Console:
    """What takes input; CommandError."""
    if machine.console is None:
        raise CommandError("There is no console that takes keys.")
    return machine.console


def send_key(machine: Machine, keys: list[dict[str, Any]], hold_time: int = DEFAULT_HOLD) -> Any:
    """Press keys together and let them go."""
    names = [key_name(key) for key in keys]
    console = console_of(machine)
    for name in names:
        console.key(name, down=True)

    def release() -> None:
        for name in reversed(names):
            console.key(name, down=False)

    machine.runner.later(hold_time / 1000, release)
    return {}


def send_events(machine: Machine, events: list[dict[str, Any]], device: str | None = None,
                head: int = 0) -> Any:  # fmt: skip
    """What a user does, one thing after the other."""
    del head
    if device is not None:
        raise CommandError(f"Device '{device}' not found")
    if machine.runner.state is not RunState.RUNNING:
        raise CommandError("VM not running")
    console = console_of(machine)
    for event in events:  # an unknown key means that nothing is done
        if event["type"] == "key":
            key_name(event["data"]["key"])
    for event in events:
        _DO[event["type"]](console, event["data"])
    return {}


def _key(console: Console, data: dict[str, Any]) -> None:
    console.key(key_name(data["key"]), down=data["down"])


def _button(console: Console, data: dict[str, Any]) -> None:
    name, down = data["button"], data["down"]
    if name in _WHEEL:
        console.press(console.buttons, _WHEEL[name] if down else 0)
        return
    bit = _BUTTONS[name]
    console.press(console.buttons | bit if down else console.buttons & ~bit)


def _move(console: Console, data: dict[str, Any]) -> None:
    distance = {"x": (data["value"], 0), "y": (0, data["value"])}[data["axis"]]
    console.point(*distance, console.buttons)


def _place(console: Console, data: dict[str, Any]) -> None:
    x, y = console.place
    x, y = (data["value"], y) if data["axis"] == "x" else (x, data["value"])
    console.point_at(x, y, PLACES, console.buttons)


_DO: Final = {"key": _key, "btn": _button, "rel": _move, "abs": _place}


def query_mice(machine: Machine) -> Any:
    """The pointers; the one that is used comes first."""
    rows = [(PS2_MOUSE, "QEMU PS/2 Mouse", False, True)]
    for index, device in enumerate(machine.board.inputs, PS2_MOUSE + 1):
        if isinstance(device, VirtioMouse | VirtioTablet):
            absolute = isinstance(device, VirtioTablet)
            rows.append((index, device.name, absolute, device.running))
    rows.sort(key=lambda row: (row[3], row[2], row[0] != PS2_MOUSE), reverse=True)
    return [{"name": name, "index": index, "absolute": absolute, "current": place == 0}
            for place, (index, name, absolute, _) in enumerate(rows)]  # fmt: skip


COMMANDS: Final = (
    Command("query-mice", query_mice, returns="[MouseInfo]"),
    Command("send-key", send_key, "keys: [KeyValue], *hold-time: int"),
    Command("input-send-event", send_events, "*device: str, *head: int, events: [InputEvent]"),
)
