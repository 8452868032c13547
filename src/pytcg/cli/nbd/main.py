"""pytcg-nbd: serve a disk image over NBD, with qemu-nbd's command line."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Sequence

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.raw import RawDevice
from pytcg.block.open import open_image
from pytcg.block.options import parse_keyval
from pytcg.block.protocols.nbd.address import NbdAddress
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.handshake import ClientHandshake, ExportInfo
from pytcg.block.protocols.nbd.protocol import DEFAULT_PORT, FLAG_WORDS
from pytcg.block.protocols.nbd.server import NbdServer, listen_tcp, listen_unix
from pytcg.cli.block_tool import ToolError, UsageError, fail, warn_if_probed
from pytcg.cli.nbd.options import TOOL, Settings, parse_settings
from pytcg.tls.credentials import TlsCredentials, TlsError, find_object


def open_export(settings: Settings) -> Export:
    """Open the image and say what of it is exported."""
    device = _open_device(settings)
    try:
        if settings.offset:
            device = RawDevice(device, offset=settings.offset)
        return Export(
            device,
            name=settings.export_name or "",
            description=settings.description or "",
            read_only=settings.read_only,
            shared=settings.shared != 1,
            allocation_depth=settings.allocation_depth,
            bitmaps=tuple(settings.bitmaps),
        )
    except BaseException:
        device.close()
        raise


def _open_device(settings: Settings) -> BlockDevice:
    name = settings.files[0]
    read_only = settings.read_only or settings.load_snapshot is not None
    try:
        device = open_image(
            name, format=settings.image_format, read_only=read_only,
            cache=settings.cache or "writeback",
            # Without writes neither matters; then no filter need stand in the way.
            discard="unmap" if read_only else settings.discard or "ignore",
            detect_zeroes="off" if read_only else settings.detect_zeroes or "off",
            snapshot=settings.snapshot,
            image_opts=settings.image_opts,
        )
    except BlockError as error:
        raise ToolError(f"Failed to blk_new_open '{name}': {error}") from None
    warn_if_probed(device, name)
    if settings.load_snapshot is not None:
        _load_snapshot(device, settings.load_snapshot)
    return device


def _load_snapshot(device: BlockDevice, wanted: str) -> None:
    """Show an internal snapshot: ID_OR_NAME, or snapshot.id=ID / snapshot.name=NAME."""
    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.block.formats.qcow2.snapshot import load_snapshot

    if wanted.startswith("snapshot."):
        given = parse_keyval(wanted)
        wanted = given.get("snapshot.id") or given.get("snapshot.name", "")
    try:
        if not isinstance(device, Qcow2Device):
            raise BlockError(f"Block format '{device.format_name}' has no internal snapshots")
        load_snapshot(device, wanted)
    except BlockError as error:
        device.close()
        text = "Can't find snapshot" if error.errno == errno.ENOENT else str(error)
        raise ToolError(f"Failed to load snapshot: {text}") from None


def inherited_listener() -> socket.socket | None:
    """The listening socket systemd (or a libnbd client) started us with, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise ToolError("only one listening socket may be handed over")
    listener = socket.socket(fileno=3)
    os.set_inheritable(3, False)
    return listener


def listen(settings: Settings) -> list[socket.socket]:
    """The sockets the command line asks for."""
    if settings.socket_path is not None:
        try:
            return [listen_unix(settings.socket_path)]
        except OSError as error:
            text = error.strerror or str(error)
            raise ToolError(f"Failed to bind socket to {settings.socket_path}: {text}") from None
    host = settings.bind or "0.0.0.0"
    port = settings.port or str(DEFAULT_PORT)
    if not port.isdecimal() or int(port) > 65535:
        raise ToolError(f"address resolution failed for {host}:{port}: "
                        "the port must be a number up to 65535")
    try:
        return listen_tcp(host, int(port))
    except socket.gaierror as error:
        text = f"address resolution failed for {host}:{port}: {error.strerror}"
        raise ToolError(text) from None
    except OSError as error:
        raise ToolError(f"Failed to bind socket: {os.strerror(error.errno or 0)}") from None


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_creds is None:
        return None
    return _credentials(settings.tls_creds).server_context()


def _credentials(ident: str) -> TlsCredentials:
    try:
        return find_object(ident)
    except TlsError as error:
        raise ToolError(f"Failed to get TLS creds: {error}") from None


class _Ready:
    """With --fork, the parent waits for word from the child; without, there is nobody to tell."""

    def __init__(self, *, fork: bool) -> None:
        self._pipe = -1
        if not fork:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        reader, writer = os.pipe()
        if os.fork():  # no threads yet, so forking is safe
            os.close(writer)
            # The child's own messages reached our stderr; the status is all that is missing.
            os._exit(0 if os.read(reader, 1) else 1)
        os.close(reader)
        os.setsid()
        self._pipe = writer

    def tell(self) -> None:
        """Clients can connect: let the parent go, and the terminal with it."""
        if self._pipe < 0:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._pipe, b"x")
        os.close(self._pipe)


def serve(settings: Settings) -> None:
    """Serve until a signal comes, or the last client leaves."""
    listener = inherited_listener()
    ready = _Ready(fork=settings.fork)
    tls = _server_tls(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    export = open_export(settings)
    try:
        server = NbdServer([export], tls=tls, max_clients=settings.shared,
                           on_last_client=None if settings.persistent else stop.set)
        listeners = [listener] if listener is not None else listen(settings)
        try:
            _write_pid_file(settings)
            server.start(*listeners)
            ready.tell()
            stop.wait()
            server.close()
        finally:
            _remove_files(settings, ours=listener is None)
    finally:
        export.device.close()


def _write_pid_file(settings: Settings) -> None:
    if settings.pid_file is None:
        return
    try:
        with open(settings.pid_file, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        text = f"Could not create '{settings.pid_file}': {error.strerror}"
        settings.pid_file = None
        raise ToolError(text) from None


def _remove_files(settings: Settings, *, ours: bool) -> None:
    with contextlib.suppress(OSError):
        if settings.pid_file is not None and stat.S_ISREG(os.stat(settings.pid_file).st_mode):
            os.unlink(settings.pid_file)
    with contextlib.suppress(OSError):
        if ours and settings.socket_path is not None:
            os.unlink(settings.socket_path)


# ---- listing ----


def list_exports(settings: Settings) -> None:
    """Print what another server offers."""
    tls = _credentials(settings.tls_creds) if settings.tls_creds is not None else None
    host = settings.bind or "0.0.0.0"
    address = NbdAddress(host, settings.port or str(DEFAULT_PORT), path=settings.socket_path,
                         tls=tls, tls_hostname=settings.tls_hostname or settings.bind)
    found = ClientHandshake(address).list_exports()
    print(f"exports available: {len(found)}")
    for info in found:
        print("\n".join(describe_export(info)))


def describe_export(info: ExportInfo) -> list[str]:
    """An export in the lines `qemu-nbd -L` prints."""
    lines = [f" export: '{info.name}'"]
    if info.description:
        lines.append(f"  description: {info.description}")
    if info.flags:
        words = " ".join(word for flag, word in FLAG_WORDS.items() if flag in info.flags)
        lines += [f"  size:  {info.size}", f"  flags: 0x{info.flags:x} ( {words} )"]
    if info.min_block:
        lines += [f"  min block: {info.min_block}", f"  opt block: {info.opt_block}",
                  f"  max block: {info.max_block}"]
    if info.contexts:
        lines.append(f"  available meta contexts: {len(info.contexts)}")
        lines += [f"   {name}" for name in info.contexts]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    try:
        settings = parse_settings(sys.argv[1:] if argv is None else argv)
        level = logging.INFO if settings.verbose else logging.ERROR
        logging.basicConfig(level=level, format=f"{TOOL}: %(message)s")
        if settings.list_exports:
            list_exports(settings)
        else:
            serve(settings)
    except UsageError as error:
        fail(TOOL, f"{error}\n{TOOL}: Try `{TOOL} --help' for more information.")
    except (ToolError, TlsError, BlockError) as error:
        fail(TOOL, error)
    return 0
