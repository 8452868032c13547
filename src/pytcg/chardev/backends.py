"""The character devices there are: what each is called, its options, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, NamedTuple

from pytcg.chardev.base import Chardev, ChardevError, NullChardev

Values = Mapping[str, str]
SWITCH: Final = {"on": True, "yes": True, "true": True, "y": True,
                 "off": False, "no": False, "false": False, "n": False}  # fmt: skip
COMMON: Final = ("id", "mux", "logfile", "logappend")


class Backend(NamedTuple):
    """One row: the name, the options it takes beside `COMMON`, and the maker."""

    name: str
    options: tuple[str, ...]
    make: Callable[[str, Values], Chardev]


def switch(values: Values, key: str, *, default: bool) -> bool:
    """An on/off option."""
    text = values.get(key)
    if text is None:
        return default
    if text not in SWITCH:
        raise ChardevError(f"Parameter '{key}' expects 'on' or 'off'")
    return SWITCH[text]


def number(values: Values, key: str, default: int) -> int:
    """An option that counts something."""
    text = values.get(key, str(default))
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise ChardevError(f"Parameter '{key}' expects a number")
    return value


def needed(kind: str, values: Values, key: str) -> str:
    """An option there is no doing without."""
    if not values.get(key):
        raise ChardevError(f"chardev: {kind}: no {'filename' if key == 'path' else key} given")
    return values[key]


def _null(label: str, values: Values) -> Chardev:
    del values
    return NullChardev(label)


def _stdio(label: str, values: Values) -> Chardev:
    from pytcg.chardev.stdio import StdioChardev

    return StdioChardev(label, signals=switch(values, "signal", default=True))


def _vc(label: str, values: Values) -> Chardev:
    from pytcg.chardev.vc import VcChardev

    del values
    return VcChardev(label)


def _file(label: str, values: Values) -> Chardev:
    from pytcg.chardev.file import FileChardev

    path = needed("file", values, "path")
    return FileChardev(label, path, append=switch(values, "append", default=False))


def _pty(label: str, values: Values) -> Chardev:
    from pytcg.chardev.pty import PtyChardev

    del values
    return PtyChardev(label)


def _pipe(label: str, values: Values) -> Chardev:
    from pytcg.chardev.pipe import PipeChardev

    return PipeChardev(label, needed("pipe", values, "path"))


def _udp(label: str, values: Values) -> Chardev:
    from pytcg.chardev.udp import UdpChardev

    if not values.get("port"):
        raise ChardevError("chardev: udp: remote port not specified")
    local = values.get("localaddr", ""), values.get("localport", "0")
    return UdpChardev(label, (values.get("host", "localhost"), values["port"]), local)


def _ringbuf(label: str, values: Values) -> Chardev:
    from pytcg.block.options import parse_size
    from pytcg.chardev.ringbuf import DEFAULT_SIZE, RingBuffer

    try:
        size = parse_size(values["size"]) if "size" in values else DEFAULT_SIZE
    except ValueError as error:
        raise ChardevError(f"Parameter 'size' expects a size: {error}") from error
    return RingBuffer(label, size)


def _socket(label: str, values: Values) -> Chardev:
    from pytcg.chardev.socket import SocketChardev, SocketOptions

    server = switch(values, "server", default=False)
    if not server and "wait" in values:
        raise ChardevError("'wait' option is incompatible with socket in client connect mode")
    if server and number(values, "reconnect", 0):
        raise ChardevError("'reconnect' option is incompatible with socket in server listen mode")
    if sum(key in values for key in ("path", "port", "fd")) > 1:
        raise ChardevError("None or one of 'path', 'fd' or 'host' option is required")
    if not {"path", "port", "fd"} & values.keys():
        what = "no port given" if "host" in values else "no host, path or fd given"
        raise ChardevError(f"chardev: socket: {what}")
    return SocketChardev(label, SocketOptions(
        fd=number(values, "fd", 0) if "fd" in values else None, path=values.get("path"),
        host=values.get("host", ""), port=values.get("port", ""),
        server=server, wait=server and switch(values, "wait", default=True),
        telnet=switch(values, "telnet", default=False),
        nodelay=switch(values, "nodelay", default=not switch(values, "delay", default=True)),
        reconnect=number(values, "reconnect", 0),
    ))  # fmt: skip


BACKENDS: Final = {row.name: row for row in (
    Backend("null", (), _null),
    Backend("stdio", ("signal",), _stdio),
    Backend("file", ("path", "append"), _file),
    Backend("pty", (), _pty),
    Backend("vc", (), _vc),
    Backend("pipe", ("path",), _pipe),
    Backend("udp", ("host", "port", "localaddr", "localport", "ipv4", "ipv6"), _udp),
    Backend("ringbuf", ("size",), _ringbuf),
    Backend("socket", ("path", "fd", "host", "port", "server", "wait", "telnet", "nodelay", "delay",
                       "reconnect", "to", "ipv4", "ipv6"), _socket),
)}  # fmt: skip
ALIASES: Final = {"memory": "ringbuf"}


def names() -> list[str]:
    """What `-chardev` can make."""
    return sorted((*BACKENDS, *ALIASES, "mux"))


def make_chardev(kind: str, label: str, values: Values) -> Chardev:
    """A character device of that kind, `mux=on` included; ChardevError says what is wrong."""
    from pytcg.chardev.mux import MuxChardev

    row = BACKENDS.get(ALIASES.get(kind, kind))
    if row is None:
        raise ChardevError(f"'{kind}' is not a valid char driver name")
    for key in values:
        if key not in row.options and key not in COMMON:
            raise ChardevError(f"Invalid parameter '{key}'")
    log = _open_log(values)
    made = row.make(label, values)
    made.log = log
    return MuxChardev(made) if switch(values, "mux", default=False) else made


def _open_log(values: Values) -> BinaryIO | None:
    """`logfile=`: unbuffered, so that it is whole whatever happens."""
    if "logfile" not in values:
        return None
    mode = "ab" if switch(values, "logappend", default=False) else "wb"
    try:
        return open(values["logfile"], mode, buffering=0)  # type: ignore[return-value]
    except OSError as error:
        name = values["logfile"]
        raise ChardevError(f"Could not create '{name}': {error.strerror}") from error
