"""nbd-server-*: an NBD server in the emulator, beside the guest."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.gate import Gate
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.server import NbdServer, listen_tcp, listen_unix
from pytcg.monitor.block.lookup import node_of
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def _server(machine: Machine) -> NbdServer:
    if machine.exports.server is None:
        raise CommandError("NBD server not running")
    return machine.exports.server


def start(machine: Machine, addr: dict[str, Any], tls_creds: str | None = None,
          tls_authz: str | None = None, max_connections: int = 0) -> Any:  # fmt: skip
    """nbd-server-start."""
    if machine.exports.server is not None:
        raise CommandError("NBD server already running")
    if tls_creds is not None or tls_authz is not None:
        raise CommandError(f"No TLS credentials with id '{tls_creds}'")
    where = addr["data"]
    try:
        if addr["type"] == "unix":
            listeners = [listen_unix(where["path"])]
        else:
            listeners = _tcp(where)
    except OSError as error:
        shown = where.get("path") or f"{where.get('host')}:{where.get('port')}"
        raise CommandError(f"Failed to bind socket to {shown}: {error.strerror}") from None
    server = NbdServer([], max_clients=max_connections)
    server.start(*listeners)
    machine.exports.server = server
    machine.exports.path = where["path"] if addr["type"] == "unix" else None


def _tcp(where: dict[str, Any]) -> list[socket.socket]:
    if not where["port"].isdecimal() or int(where["port"]) > 0xFFFF:
        raise CommandError(f"address resolution failed for {where['host']}:{where['port']}:"
                           " Servname not supported for ai_socktype")  # fmt: skip
    return listen_tcp(where["host"], int(where["port"]))


def add(machine: Machine, device: str, name: str | None = None, description: str = "",
        bitmap: str | None = None, *, writable: bool = False) -> Any:  # fmt: skip
    """nbd-server-add: a drive or a node, under its own name or another."""
    server = _server(machine)
    node = node_of(machine, device, device)
    shown = device if name is None else name
    if shown in server.exports:
        raise CommandError(f"NBD server already has export named '{shown}'")
    if bitmap is not None:
        raise CommandError(f"Bitmap '{bitmap}' is not found")
    if writable and node.read_only:
        writable = False
    graph = machine.drives.graph
    users = graph.users_of(node)
    gate = Gate(users[0].device if users else node)
    graph.use(gate)
    server.exports[shown] = Export(gate, shown, description, read_only=not writable, shared=True)
    machine.exports.gates[shown] = gate


def remove(machine: Machine, name: str, mode: str = "safe") -> Any:
    """nbd-server-remove: clients that are there go on only if it is forced away from them."""
    del mode
    server = _server(machine)
    if name not in server.exports:
        raise CommandError(f"Export '{name}' is not found", "DeviceNotFound")
    del server.exports[name]
    _withdraw(machine, name)


def _withdraw(machine: Machine, name: str) -> None:
    machine.drives.graph.leave(machine.exports.gates.pop(name))
    machine.runner.tell("BLOCK_EXPORT_DELETED", id=name)


def stop(machine: Machine) -> Any:
    """nbd-server-stop: hang up on all."""
    server = _server(machine)
    server.close()
    machine.exports.server = None
    if machine.exports.path is not None:
        with contextlib.suppress(OSError):
            os.unlink(machine.exports.path)
    for name in list(machine.exports.gates):
        _withdraw(machine, name)


def query_exports(machine: Machine) -> Any:
    """query-block-exports."""
    return [{"id": name, "type": "nbd", "node-name": gate.node.node_name, "shutting-down": False}
            for name, gate in machine.exports.gates.items()]  # fmt: skip


COMMANDS: Final = (
    Command("nbd-server-start", start, "addr: SocketAddressLegacy, *tls-creds: str,"
            " *tls-authz: str, *max-connections: uint32"),
    Command("nbd-server-add", add, "*name: str, *description: str, device: str, *writable: bool,"
            " *bitmap: str"),
    Command("nbd-server-remove", remove, "name: str, *mode: BlockExportRemoveMode"),
    Command("nbd-server-stop", stop),
    Command("query-block-exports", query_exports, returns="[BlockExportInfo]"),
)  # fmt: skip
