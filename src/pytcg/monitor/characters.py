"""Character devices that come and go, and what ring buffers hold."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final

from pytcg.chardev.base import ChardevError
from pytcg.chardev.pty import PtyChardev
from pytcg.chardev.ringbuf import RingBuffer
from pytcg.monitor.command import Command, CommandError, option_text
from pytcg.monitor.schema.types import enum, struct, union

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

_COMMON: Final = "*logfile: str, *logappend: bool"
enum("ChardevBackendKind", "file pipe socket udp pty null mux stdio ringbuf memory")
struct("ChardevCommon", _COMMON)
struct("ChardevFile", f"{_COMMON}, *in: str, out: str, *append: bool")
struct("ChardevHostdev", f"{_COMMON}, device: str")
struct("ChardevSocket", f"{_COMMON}, addr: SocketAddressLegacy, *server: bool, *wait: bool,"
       " *nodelay: bool, *telnet: bool, *reconnect: int")  # fmt: skip
struct("ChardevUdp", f"{_COMMON}, remote: SocketAddressLegacy, *local: SocketAddressLegacy")
struct("ChardevMux", f"{_COMMON}, chardev: str")
struct("ChardevStdio", f"{_COMMON}, *signal: bool")
struct("ChardevRingbuf", f"{_COMMON}, *size: int")
for _each in ("Common", "File", "Hostdev", "Socket", "Udp", "Mux", "Stdio", "Ringbuf"):
    struct(f"Chardev{_each}Wrapper", f"data: Chardev{_each}")
_DATA: Final[dict[str, str]] = {
    "file": "ChardevFile", "pipe": "ChardevHostdev", "socket": "ChardevSocket",
    "udp": "ChardevUdp", "pty": "ChardevCommon", "null": "ChardevCommon", "mux": "ChardevMux",
    "stdio": "ChardevStdio", "ringbuf": "ChardevRingbuf", "memory": "ChardevRingbuf",
}  # fmt: skip
union("ChardevBackend", "type: ChardevBackendKind", "type",
      {kind: f"{name}Wrapper" for kind, name in _DATA.items()})  # fmt: skip
struct("ChardevReturn", "*pty: str")


def query_chardev(machine: Machine) -> Any:
    """The character devices."""
    return [{"label": chardev.label, "filename": chardev.description(),
             "frontend-open": chardev.frontend_open} for chardev in machine.chardevs]  # fmt: skip


def chardev_add(machine: Machine, id: str, backend: dict[str, Any]) -> Any:
    """Make a character device."""
    kind, data = backend["type"], dict(backend["data"])
    values = _addresses(kind, data)
    for name, value in data.items():
        is_path = (kind, name) in (("file", "out"), ("pipe", "device"))
        values["path" if is_path else name] = option_text(value)
    if "in" in values:
        raise CommandError(f"Failed to add chardev '{id}': input from a file is not supported")
    try:
        return create(machine, kind, id, values)
    except CommandError as error:
        if str(error).startswith("Chardev with id"):
            raise
        raise CommandError(f"Failed to add chardev '{id}': {error}") from None


def _addresses(kind: str, data: dict[str, Any]) -> dict[str, str]:
    """Those of sockets, as `-chardev` spells them."""
    if kind == "udp":
        remote, local = data.pop("remote")["data"], data.pop("local", {"data": {}})["data"]
        return {"host": remote.get("host", ""), "port": remote.get("port", ""),
                "localaddr": local.get("host", ""), "localport": local.get("port", "0")}
    if kind != "socket":
        return {}
    where = data.pop("addr")
    data.setdefault("server", True)
    if data["server"]:
        data.setdefault("wait", False)
    if where["type"] == "unix":
        return {"path": where["data"]["path"]}
    return {"host": where["data"].get("host", ""), "port": where["data"].get("port", "")}


def create(machine: Machine, kind: str, name: str, values: dict[str, str]) -> dict[str, str]:
    """Make one and listen; what a client is told of it. CommandError."""
    chardevs = machine.chardevs
    if any(chardev.label == name for chardev in chardevs):
        raise CommandError(f"Chardev with id '{name}' already exists")
    try:
        made = chardevs.create(kind, name, values)
    except ChardevError as error:
        raise CommandError(str(error)) from None
    return {"pty": made.name} if isinstance(made, PtyChardev) else {}


def ringbuf_read(machine: Machine, device: str, size: int, format: str = "utf8") -> Any:
    """What a ring buffer holds."""
    ring = _ring(machine, device)
    if size <= 0:
        raise CommandError("size must be greater than zero")
    data = ring.read(size)
    if format == "base64":
        return b64encode(data).decode()
    return data.decode(errors="replace")


def ringbuf_write(machine: Machine, device: str, data: str, format: str = "utf8") -> Any:
    """Put something into a ring buffer."""
    try:
        raw = b64decode(data, validate=True) if format == "base64" else data.encode()
    except ValueError:
        raise CommandError("Invalid parameter 'data'") from None
    _ring(machine, device).write(raw)
    return {}


def _ring(machine: Machine, name: str) -> RingBuffer:
    try:
        found = machine.chardevs.find(name)
    except ChardevError:
        raise CommandError(f"Device '{name}' not found") from None
    if not isinstance(found, RingBuffer):
        raise CommandError(f"'{name}' is not a ringbuf device")
    return found


def chardev_remove(machine: Machine, id: str) -> Any:
    """Close a character device."""
    try:
        machine.chardevs.remove(id)
    except ChardevError as error:
        raise CommandError(str(error)) from None
    return {}


def chardev_send_break(machine: Machine, id: str) -> Any:
    """A break on the line."""
    try:
        chardev = machine.chardevs.find(id)
    except ChardevError:
        raise CommandError(f"Chardev '{id}' not found") from None
    with machine.chardevs.context.lock:
        chardev.tell_break()
    return {}


COMMANDS: Final = (
    Command("query-chardev", query_chardev, returns="[ChardevInfo]"),
    Command("chardev-add", chardev_add, "id: str, backend: ChardevBackend", "ChardevReturn"),
    Command("chardev-remove", chardev_remove, "id: str"),
    Command("chardev-send-break", chardev_send_break, "id: str"),
    Command("ringbuf-read", ringbuf_read, "device: str, size: int, *format: DataFormat", "str"),
    Command("ringbuf-write", ringbuf_write, "device: str, data: str, *format: DataFormat"),
)
