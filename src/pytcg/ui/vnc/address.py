"""Where VNC servers listen: addresses as `-vnc` has them become sockets, with QEMU's messages."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any, Final

FIRST_PORT: Final = 5900
FIRST_WEBSOCKET_PORT: Final = 5700
BACKLOG: Final = 16
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


class VncError(Exception):
    """An address that can't be served, or what else `-vnc` can't have."""


def listen(address: str, to: int | None, families: tuple[bool, bool]) -> list[socket.socket]:
    """Listening sockets for [HOST]:DISPLAY or unix:PATH; VncError."""
    if address.startswith("unix:"):
        return [_listen_unix(address[5:])]
    host, _, display = address.rpartition(":")
    port = port_of(display)
    return listen_tcp(host, port, port if to is None else FIRST_PORT + to, families)


def listen_websocket(
    where: str, address: str, display: int, families: tuple[bool, bool]
) -> list[socket.socket]:
    """For `websocket=`: on (5700 and the display's number), PORT or HOST:PORT; VncError."""
    if address.startswith("unix:"):
        raise VncError("UNIX sockets not supported with websock")
    host = address.rpartition(":")[0]
    if where == "on":
        port = FIRST_WEBSOCKET_PORT + display
    else:
        named, colon, number = where.rpartition(":")
        host = named if colon else host
        if not number.isdecimal() or int(number) > 0xFFFF:
            raise VncError(f"address resolution failed for {host}:{number}: no such port")
        port = int(number)
    return listen_tcp(host, port, port, families)


def port_of(display: str, first: int = FIRST_PORT) -> int:
    """The port of a display's number."""
    if not display.isdecimal():
        raise VncError(f"can't convert to a number: {display}")
    port = first + int(display)
    if port > 0xFFFF:
        raise VncError(f"port {display} out of range")
    return port


def listen_tcp(
    host: str, first: int, last: int, families: tuple[bool, bool]
) -> list[socket.socket]:
    """At the first port up to the last that is free on all of a host's addresses."""
    found = _resolve(host.strip("[]"), first, families)
    for port in range(first, last + 1):
        made: list[socket.socket] = []
        try:
            for family, place in found:
                made.append(_bound(family, (place[0], port, *place[2:])))
            return made
        except OSError as error:
            for each in made:
                each.close()
            if error.errno != errno.EADDRINUSE:
                raise VncError(f"Failed to bind socket: {error.strerror}") from None
    raise VncError("Failed to find an available port: Address already in use")


def _resolve(host: str, port: int, families: tuple[bool, bool]) -> list[tuple[int, Any]]:
    wanted = [family for family, on in zip(_FAMILIES, families, strict=True) if on]
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                   flags=socket.AI_PASSIVE)  # fmt: skip
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VncError(f"address resolution failed for {host}:{port}: {reason}") from None
    rows = [(row[0], row[4]) for row in found if row[0] in wanted]
    if not host and not socket.has_dualstack_ipv6():
        rows = [row for row in rows if row[0] == socket.AF_INET]
    if not rows:
        raise VncError(f"address resolution failed for {host}:{port}: no such address family")
    return sorted(rows, key=lambda row: _FAMILIES.index(row[0]))


def _bound(family: int, place: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _listen_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        made.bind(path)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        reason = error.strerror or error
        raise VncError(f"Failed to bind socket to {path}: {reason}") from None
    made.setblocking(False)
    return made


def name_of(family: int, place: Any) -> dict[str, Any]:
    """A socket's name as QMP says it: host, service, family."""
    if family == socket.AF_UNIX:
        return {"host": "", "service": os.fsdecode(place), "family": "unix"}
    kind = "ipv6" if family == socket.AF_INET6 else "ipv4"
    return {"host": place[0], "service": str(place[1]), "family": kind}
