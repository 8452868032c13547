"""Character devices as the command line spells them.

`-chardev BACKEND,id=NAME,key=value…` gives one a name; `-serial`, `-monitor`, `-qmp` and their like
take a short form: stdio, mon:FORM, file:PATH, pipe:PATH, pty, vc, ringbuf, null, none,
unix:PATH[,server=on][,wait=off], tcp:[HOST]:PORT[,…], telnet:[HOST]:PORT[,…],
udp:[HOST]:PORT[@[HOST]:PORT].
"""

from __future__ import annotations

from typing import Final

from pytcg.chardev.backends import make_chardev
from pytcg.chardev.base import Chardev, ChardevError

_BARE: Final = {"stdio": "stdio", "pty": "pty", "vc": "vc", "null": "null", "none": "null",
                "ringbuf": "ringbuf", "memory": "ringbuf"}  # fmt: skip
_PATHS: Final = ("file", "pipe")
_BOOLEANS: Final = ("server", "wait", "telnet", "nodelay", "delay", "signal", "mux", "append")


def split_options(text: str) -> list[str]:
    """The parts between commas; a doubled comma stands for itself."""
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def keyed(parts: list[str]) -> dict[str, str]:
    """`key=value`; a bare key is switched on, `nokey` off, as QEMU reads them."""
    values = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if equals:
            values[key] = value
        elif part.startswith("no") and part[2:] in _BOOLEANS:
            values[part[2:]] = "off"
        elif part:
            values[part] = "on"
    return values


def parse_chardev(text: str) -> tuple[str, str, dict[str, str]]:
    """(kind, id, options) of a `-chardev` value; ChardevError if its id is missing or unfit."""
    kind, *rest = split_options(text)
    kind = kind.removeprefix("backend=")
    values = keyed(rest)
    name = values.pop("id", "")
    if not name:
        raise ChardevError("chardev: no id specified")
    if not name[0].isalpha() or not all(c.isalnum() or c in "-._" for c in name):
        raise ChardevError("Parameter 'id' expects an identifier: letters, digits, '-', '.', '_',"
                           " starting with a letter")  # fmt: skip
    return kind, name, values


def short_form(spec: str) -> tuple[str, dict[str, str]] | None:
    """(kind, options) of a short form; None if it is none."""
    kind, _, rest = spec.partition(":")
    if kind in _BARE and not rest:
        first, *more = split_options(kind)
        return _BARE[first], keyed(more)
    head, *more = split_options(spec)
    if head in _BARE:
        return _BARE[head], keyed(more)
    head, *more = split_options(rest)
    if kind in _PATHS and rest:
        return kind, {"path": rest}
    if kind == "unix" and head:
        named = keyed([head]) if "=" in head else {"path": head}
        return "socket", {**named, **keyed(more)}
    if kind == "udp" and ":" in rest:
        return "udp", _udp_form(rest)
    if kind in ("tcp", "telnet") and ":" in head:
        host, _, port = head.rpartition(":")
        values = {"host": host.strip("[]"), "port": port, **keyed(more)}
        return "socket", values | ({"telnet": "on"} if kind == "telnet" else {})
    return None


def _udp_form(text: str) -> dict[str, str]:
    """[HOST]:PORT[@[HOST]:PORT], ours last."""
    remote, _, local = text.partition("@")
    host, _, port = remote.rpartition(":")
    values = {"port": port} | ({"host": host.strip("[]")} if host else {})
    host, _, port = local.rpartition(":")
    return values | ({"localaddr": host.strip("[]")} if host else {}) | (
        {"localport": port} if port else {})


def open_chardev(spec: str, label: str) -> Chardev:
    """Open what a short form names; ChardevError names the specification if it can't be."""
    from pytcg.chardev.mux import MuxChardev

    if spec.startswith("mon:"):
        inner = spec.removeprefix("mon:")
        if inner == "stdio":
            return MuxChardev(make_chardev("stdio", label, {"signal": "off"}))
        if inner:
            return MuxChardev(open_chardev(inner, label))
    found = short_form(spec)
    if found is None:
        raise ChardevError(f"could not connect {label} to character backend '{spec}'")
    return make_chardev(found[0], label, found[1])
