"""-chardev, -mon, -monitor, -qmp and -S: who talks to the machine, and who controls it."""

from __future__ import annotations

from typing import Final

from pytcg.chardev.base import ChardevError
from pytcg.cli.system.option_values import (
    ChardevOption,
    Information,
    MonitorOption,
    OptionError,
    Options,
)

MODES: Final = ("readline", "control")
SWITCHES: Final = {"on": True, "off": False}


def set_chardev(options: Options, text: str) -> None:
    """A character device with an id."""
    from pytcg.chardev.backends import names
    from pytcg.chardev.spec import parse_chardev

    if text in ("help", "?"):
        listed = "".join(f"  {name}\n" for name in names())
        raise Information(f"Available chardev backend types: \n{listed}")
    try:
        made = ChardevOption(text, *parse_chardev(text))
    except ChardevError as error:
        raise OptionError(f"-chardev {text}: {error}") from None
    if any(made.name == each.name for each in options.chardevs):
        raise OptionError(f"-chardev {text}: Duplicate ID '{made.name}' for chardev")
    options.chardevs.append(made)


def set_qmp(options: Options, text: str) -> None:
    """A character device that speaks QMP."""
    options.monitors.append(MonitorOption(text, control=True))


def set_qmp_pretty(options: Options, text: str) -> None:
    """The same, with JSON for people."""
    options.monitors.append(MonitorOption(text, control=True, pretty=True))


def set_monitor(options: Options, text: str) -> None:
    """A character device with the human monitor on it."""
    options.monitors.append(MonitorOption(text, control=False))


def set_mon(options: Options, text: str) -> None:
    """A monitor on a character device that has an id."""
    from pytcg.chardev.spec import keyed, split_options

    first, *rest = split_options(text)
    values = keyed([first if "=" in first else f"chardev={first}", *rest])
    for key in values:
        if key not in ("chardev", "mode", "pretty", "id"):
            raise OptionError(f"-mon {text}: Invalid parameter '{key}'")
    if "chardev" not in values:
        raise OptionError(f"-mon {text}: Parameter 'chardev' is missing")
    mode, pretty = values.get("mode", "readline"), values.get("pretty", "off")
    if mode not in MODES:
        raise OptionError(f"-mon {text}: Parameter 'mode' does not accept value '{mode}'")
    if pretty not in SWITCHES:
        raise OptionError(f"-mon {text}: Parameter 'pretty' expects 'on' or 'off'")
    options.monitors.append(MonitorOption(f"chardev:{values['chardev']}", mode == "control",
                                          SWITCHES[pretty]))  # fmt: skip


def set_paused(options: Options, text: str) -> None:
    """Wait for `cont`."""
    del text
    options.paused = True
