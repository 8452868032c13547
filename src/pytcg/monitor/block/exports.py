"""nbd-server-* and block-export-*: an NBD server in the emulator, beside the guest."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.dirty import DirtyBitmap, bitmaps_of, check_usable
from pytcg.block.gate import Gate
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.server import NbdServer, listen_tcp, listen_unix
from pytcg.monitor.block.lookup import node_of
from pytcg.monitor.command import Command, CommandError, is_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from pytcg.block.device import BlockDevice
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
    if tls_authz is not None:
        raise CommandError("Parameter 'tls-authz' is not supported")
    tls = _context(tls_creds) if tls_creds is not None else None
    where = addr["data"]
    try:
        if addr["type"] == "unix":
            listeners = [listen_unix(where["path"])]
        else:
            listeners = _tcp(where)
    except OSError as error:
        shown = where.get("path") or f"{where.get('host')}:{where.get('port')}"
        raise CommandError(f"Failed to bind socket to {shown}: {error.strerror}") from None
    server = NbdServer([], tls=tls, max_clients=max_connections)
    server.start(*listeners)
    machine.exports.server = server
    machine.exports.path = where["path"] if addr["type"] == "unix" else None


def _context(ident: str) -> ssl.SSLContext:
    """A tls-creds object's, of the server's end; CommandError."""
    from pytcg.tls.credentials import TlsError, find_object

    try:
        return find_object(ident).server_context()
    except TlsError as error:
        raise CommandError(str(error)) from None


def _tcp(where: dict[str, Any]) -> list[socket.socket]:
    if not where["port"].isdecimal() or int(where["port"]) > 0xFFFF:
        raise CommandError(f"address resolution failed for {where['host']}:{where['port']}:"
                           " Servname not supported for ai_socktype")  # fmt: skip
    return listen_tcp(where["host"], int(where["port"]))


def add(machine: Machine, device: str, name: str | None = None, description: str = "",
        bitmap: str | None = None, *, writable: bool = False) -> Any:  # fmt: skip
    """nbd-server-add: a drive or a node, under its own name or another, which is the id, too."""
    _server(machine)
    node = node_of(machine, device, device)
    shown = device if name is None else name
    _offer(machine, shown, node, shown, description, writable=writable and not node.read_only,
           bitmaps=[] if bitmap is None else [bitmap])  # fmt: skip


def add_export(machine: Machine, given: dict[str, Any]) -> Any:
    """block-export-add: a node, under its own name or another."""
    if not is_id(given["id"]):
        raise CommandError("Invalid block export id")
    node = node_of(machine, None, given["node-name"])
    writable = given.get("writable", False)
    if writable and node.read_only:
        raise CommandError("Cannot export read-only node as writable")
    _offer(machine, given["id"], node, given.get("name", given["node-name"]),
           given.get("description", ""), writable=writable,
           allocation_depth=given.get("allocation-depth", False),
           bitmaps=given.get("bitmaps", ()))  # fmt: skip


def _offer(machine: Machine, id: str, node: BlockDevice, name: str, description: str, *,
           writable: bool, allocation_depth: bool = False,
           bitmaps: Sequence[str | dict[str, str]] = ()) -> None:
    if id in machine.exports.gates:
        raise CommandError(f"Block export id '{id}' is already in use")
    server = _server(machine)
    if name in server.exports:
        raise CommandError(f"NBD server already has export named '{name}'")
    graph = machine.drives.graph
    found = [_bitmap(machine, node, each, writable=writable) for each in bitmaps]
    gate = Gate(graph.entry(node))
    graph.use(gate)
    server.exports[name] = Export(gate, name, description, read_only=not writable, shared=True,
                                  allocation_depth=allocation_depth,
                                  bitmaps=tuple(each.name for each in found))  # fmt: skip
    for bitmap in found:
        bitmap.exported += 1
    machine.exports.bitmaps[id] = found
    machine.exports.gates[id] = gate, name


def _bitmap(machine: Machine, node: BlockDevice, wanted: str | dict[str, str], *, writable: bool
            ) -> DirtyBitmap:  # fmt: skip
    """One that an export shows: of the node or of one that it stands on; CommandError."""
    if isinstance(wanted, dict):
        layers, name = [node_of(machine, None, wanted["node"])], wanted["name"]
    else:
        layers, name = [layer.node for layer in node.layers()], wanted
    for layer in layers:
        for bitmap in bitmaps_of(layer):
            if bitmap.name == name:
                check_usable(bitmap, read_only=False)
                if bitmap.enabled and not writable and not layer.read_only:
                    raise CommandError(f"Enabled bitmap '{name}' incompatible with readonly"
                                       " export")  # fmt: skip
                return bitmap
    raise CommandError(f"Bitmap '{name}' is not found")


def remove_export(machine: Machine, id: str, mode: str = "safe") -> Any:
    """block-export-del: clients that are there go on only if it is forced away from them."""
    del mode
    if id not in machine.exports.gates:
        raise CommandError(f"Export '{id}' is not found")
    _withdraw(machine, id)


def _withdraw(machine: Machine, id: str) -> None:
    gate, name = machine.exports.gates.pop(id)
    if machine.exports.server is not None:
        del machine.exports.server.exports[name]
    for bitmap in machine.exports.bitmaps.pop(id):
        bitmap.exported -= 1
    machine.drives.graph.leave(gate)
    machine.runner.tell("BLOCK_EXPORT_DELETED", id=id)


def stop(machine: Machine) -> Any:
    """nbd-server-stop: hang up on all."""
    server = _server(machine)
    server.close()
    machine.exports.server = None
    if machine.exports.path is not None:
        with contextlib.suppress(OSError):
            os.unlink(machine.exports.path)
    for id in list(machine.exports.gates):
        _withdraw(machine, id)


def query_exports(machine: Machine) -> Any:
    """query-block-exports."""
    return [{"id": id, "type": "nbd", "node-name": gate.node.node_name, "shutting-down": False}
            for id, (gate, _) in machine.exports.gates.items()]  # fmt: skip


COMMANDS: Final = (
    Command("nbd-server-start", start, "addr: SocketAddressLegacy, *tls-creds: str,"
            " *tls-authz: str, *max-connections: uint32"),
    Command("nbd-server-add", add, "*name: str, *description: str, device: str, *writable: bool,"
            " *bitmap: str"),
    Command("nbd-server-remove", lambda machine, name, mode="safe": remove_export(
        machine, name, mode), "name: str, *mode: BlockExportRemoveMode"),
    Command("nbd-server-stop", stop),
    Command("block-export-add", add_export, "BlockExportOptions"),
    Command("block-export-del", remove_export, "id: str, *mode: BlockExportRemoveMode"),
    Command("query-block-exports", query_exports, returns="[BlockExportInfo]"),
)  # fmt: skip
