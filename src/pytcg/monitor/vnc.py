"""QMP's commands for VNC: who looks, and the password they need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine
    from pytcg.ui.vnc.server import VncServer

NOT_SET: Final = "Could not set password"


def query_vnc(machine: Machine) -> Any:
    """The first server, as it was before there could be several."""
    servers = machine.vnc[0].servers() if machine.vnc else []
    if not servers:
        return {"enabled": False}
    first = next(row for row in servers if not row["websocket"])
    for name in ("websocket", "vencrypt"):
        first.pop(name, None)
    first["auth"] = machine.vnc[0].long_auth
    clients = [client.peer for client in machine.vnc[0].clients]
    return {"enabled": True, **first, "clients": clients}


def query_vnc_servers(machine: Machine) -> Any:
    """All servers."""
    return [{"id": server.settings.ident, **server.auth_facts(), "server": server.servers(),
             "clients": [client.peer for client in server.clients]}
            for server in machine.vnc]  # fmt: skip


def _server(machine: Machine, protocol: str, display: str | None, failure: str) -> VncServer:
    if protocol == "spice":
        raise CommandError("SPICE is not in use", "DeviceNotActive")
    for server in machine.vnc:
        if display in (None, server.settings.ident):
            return server
    raise CommandError(failure)


def set_password(machine: Machine, protocol: str, password: str, connected: str = "keep",
                 display: str | None = None) -> Any:  # fmt: skip
    """What viewers have to know from now on; those that are there stay."""
    server = _server(machine, protocol, display, NOT_SET)
    if connected != "keep":
        raise CommandError("Invalid parameter 'connected'")
    if not server.settings.password:
        raise CommandError(NOT_SET)
    server.guard.password.set(password.encode())
    return {}


def change_vnc_password(machine: Machine, password: str) -> Any:
    """The first server's."""
    return set_password(machine, "vnc", password)


def expire_password(machine: Machine, protocol: str, time: str, display: str | None = None) -> Any:
    """When the password stops being valid: now, never, +SECONDS, or a time in UNIX's seconds."""
    server = _server(machine, protocol, display, "Could not set password expire time")
    server.guard.password.expire(_when(time))
    return {}


def _when(text: str) -> float | None:
    if text in ("never", "now"):
        return None if text == "never" else 0.0
    digits = text.removeprefix("+")
    if not digits.isdecimal():
        raise CommandError(f"Parameter 'time' doesn't take '{text}': now, never, +SECONDS, SECONDS")
    return (time.time() if text.startswith("+") else 0.0) + int(digits)


COMMANDS: Final = (
    Command("query-vnc", query_vnc, returns="VncInfo"),
    Command("query-vnc-servers", query_vnc_servers, returns="[VncInfo2]"),
    Command("set_password", lambda machine, given: set_password(machine, **given),
            "SetPasswordOptions"),
    Command("change-vnc-password", change_vnc_password, "password: str"),
    Command("expire_password", lambda machine, given: expire_password(machine, **given),
            "ExpirePasswordOptions"),
)  # fmt: skip
