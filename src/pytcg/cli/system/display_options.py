"""-vga, -display and -vnc: the card, and who shows it."""

from __future__ import annotations

from typing import Final

from pytcg.cli.system.option_values import OptionError, Options

CARDS: Final = ("std", "none")
VGA_BIOS: Final = "vgabios-stdvga.bin"


def set_vga(options: Options, text: str) -> None:
    """Which card there is."""
    if text not in CARDS:
        raise OptionError(f"-vga {text}: unknown card, not one of {', '.join(CARDS)}")
    options.vga = text


def set_display(options: Options, text: str) -> None:
    """Nothing, or a VNC server."""
    kind, _, value = text.partition("=")
    if kind == "vnc" and value:
        set_vnc(options, value)
    elif text != "none":
        raise OptionError(f"-display {text}: there is no such display, only none and vnc=ADDRESS")


def set_vnc(options: Options, text: str) -> None:
    """[HOST]:DISPLAY or unix:PATH; `none` for no server."""
    address, *rest = text.split(",")
    for word in rest:
        if word not in ("password=off", "share=ignore", "share=force-shared"):
            raise OptionError(f"-vnc: '{word}' is not there")
    if address != "none" and ":" not in address:
        raise OptionError(f"-vnc {text}: no vnc port specified")
    options.vnc = None if address == "none" else address


def has_card(options: Options) -> bool:
    """A standard VGA is part of the machine unless somebody says otherwise."""
    return options.vga == "std" or (options.vga is None and options.defaults)
