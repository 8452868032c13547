"""-vga and -display: the card, and who shows it."""

from __future__ import annotations

from typing import Final

from pytcg.cli.system.option_values import MonitorOption, OptionError, Options, listing
from pytcg.cli.system.vnc_option import set_vnc

CARDS: Final = ("std", "none")
KINDS: Final = {"none": "nothing shows it", "curses": "its text screen is on the terminal",
                "vnc=ADDRESS": "as -vnc"}  # fmt: skip
VGA_BIOS: Final = "vgabios-stdvga.bin"


def set_vga(options: Options, text: str) -> None:
    """Which card there is."""
    if text not in CARDS:
        raise OptionError(f"-vga {text}: unknown card, not one of {', '.join(CARDS)}")
    options.vga = text


def set_display(options: Options, text: str) -> None:
    """Nothing, the terminal, or a VNC server."""
    if text in ("help", "?"):
        raise listing("Available display backend types:", KINDS)
    kind, equals, value = text.partition("=")
    if kind == "vnc":
        if not equals:
            raise OptionError("-display vnc: VNC requires a display argument vnc=<display>")
        set_vnc(options, value)
    elif text in ("none", "curses"):
        options.curses = text == "curses"
    else:
        kind = text.partition(",")[0].removeprefix("type=")
        raise OptionError(f"-display {text}: Parameter 'type' does not accept value '{kind}'")


def has_card(options: Options) -> bool:
    """A standard VGA is part of the machine unless somebody says otherwise."""
    if options.vga is None and is_device(options):
        return False
    return options.vga == "std" or (options.vga is None and options.defaults)


def is_device(options: Options) -> bool:
    """Whether `-device VGA` brings it."""
    return any(name == "VGA" for name, _ in options.devices)


def check_curses(options: Options) -> None:
    """What can't be beside it; the monitor that nobody named is on a text console."""
    for name in ("nographic", "daemonize"):
        if getattr(options, name):
            raise OptionError(f"-{name} cannot be used with -display curses")
    named = any(not monitor.control for monitor in options.monitors)
    if options.defaults and not named:
        options.monitors.append(MonitorOption("vc", control=False))
