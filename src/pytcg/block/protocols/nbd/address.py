"""Where an NBD export is: URIs, QEMU's `nbd:` names and blockdev options, and connecting.

URIs follow https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, unquote, urlsplit

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd.protocol import DEFAULT_PORT, MAX_STRING
from pytcg.tls.credentials import TlsCredentials, TlsError, find_object
from pytcg.typed import Any

_TLS_QUERY = {"tls-certificates", "tls-psk-file", "tls-username", "tls-hostname"}
_SCHEMES = ("nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+tcp", "nbds+unix")


@dataclass(frozen=True)
class NbdAddress:
    """An export on a server: by host and port, or by the path of a unix socket."""

    host: str = ""
    port: str = str(DEFAULT_PORT)
    path: str | None = None
    export: str = ""
    tls: TlsCredentials | None = None
    tls_hostname: str | None = None

    @property
    def server(self) -> str:
        """How messages name the server."""
        return self.path if self.path is not None else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The name an image on it goes by, spelt (and not escaped) as QEMU does."""
        if self.path is None:
            return f"nbd://{self.server}" + (f"/{self.export}" if self.export else "")
        return f"nbd+unix://{f'/{self.export}' if self.export else ''}?socket={self.path}"

    def connect(self) -> socket.socket:
        """A connected stream socket. Raises BlockError in QEMU's words."""
        if self.path is not None:
            return self._connect_unix(self.path)
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise BlockError(f"address resolution failed for {self.server}: {text}",
                             errno.EIO) from None
        failed: OSError = OSError(errno.ENOENT, "no address")
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failed = error
        raise BlockError.from_os(f"Failed to connect to '{self.server}'", failed)

    def _connect_unix(self, path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except (OSError, ValueError) as error:
            sock.close()
            if not isinstance(error, OSError) or error.errno is None:
                raise BlockError(f"UNIX socket path '{path}' is too long", errno.EINVAL) from None
            raise BlockError.from_os(f"Failed to connect to '{path}'", error) from None
        return sock


def _invalid(message: str) -> BlockError:
    return BlockError(message, errno.EINVAL)


def parse_uri(text: str) -> NbdAddress:
    """`nbd://host:port/export`, `nbd+unix:///export?socket=path`, and nbds for TLS."""
    bad = _invalid("No valid URL specified")
    try:
        parts = urlsplit(text)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise bad from None
    if parts.scheme not in _SCHEMES:
        raise bad
    export = _checked_export(unquote(parts.path).removeprefix("/"))
    tls = _uri_tls(query) if parts.scheme.startswith("nbds") else None
    named = query["tls-hostname"][-1] if "tls-hostname" in query else None
    if parts.scheme.endswith("+unix"):
        if query.keys() - _TLS_QUERY != {"socket"}:
            raise bad
        return NbdAddress(path=query["socket"][-1], export=export, tls=tls, tls_hostname=named)
    if not parts.hostname or query.keys() - _TLS_QUERY:
        raise bad
    host = parts.hostname
    return NbdAddress(host, str(port or DEFAULT_PORT), export=export, tls=tls,
                      tls_hostname=named or host)


def _uri_tls(query: Mapping[str, list[str]]) -> TlsCredentials:
    if "tls-psk-file" in query:
        path = query["tls-psk-file"][-1]
        directory, _, name = path.rpartition("/")
        if name != "keys.psk":
            raise _invalid(f"'{path}': the file must be called keys.psk")
        user = query.get("tls-username", ["qemu"])[-1]
        return TlsCredentials("tls-creds-psk", "uri", directory or ".", username=user)
    if "tls-certificates" not in query:
        raise _invalid("TLS needs tls-certificates= or tls-psk-file= in the URI")
    return TlsCredentials("tls-creds-x509", "uri", query["tls-certificates"][-1])


def parse_nbd_name(text: str) -> NbdAddress:
    """`nbd:host:port[:exportname=…]`, `nbd:unix:path[:exportname=…]`, or a URI."""
    if "://" in text:
        return parse_uri(text)
    rest, _, export = text.removeprefix("nbd:").partition(":exportname=")
    export = _checked_export(export)
    if rest.startswith("unix:"):
        return NbdAddress(path=rest[len("unix:") :], export=export)
    host, colon, port = rest.rpartition(":")
    if not colon or not port:
        raise _invalid(f"error parsing address '{rest}'")
    return NbdAddress(host.strip("[]"), port, export=export)


def _checked_export(name: str) -> str:
    if len(name.encode(errors="replace")) > MAX_STRING:
        raise _invalid("export name too long to send to server")
    return name


def parse_options(options: Mapping[str, Any]) -> NbdAddress:
    """QEMU's options of the nbd driver, with `filename` for any of the names above."""
    left = dict(options)
    address = _server_of(left)
    if "export" in left:
        address = replace(address, export=_checked_export(str(left.pop("export"))))
    if "tls-hostname" in left:
        address = replace(address, tls_hostname=str(left.pop("tls-hostname")))
    if "tls-creds" in left:
        try:
            address = replace(address, tls=find_object(str(left.pop("tls-creds"))))
        except TlsError as error:
            raise _invalid(str(error)) from None
    for name in left:
        raise _invalid(f"Block protocol 'nbd' doesn't support the option '{name}'")
    return address


def take_seconds(left: dict[str, Any], name: str) -> int:
    """Take one of the driver's time spans out of its options; 0 if it is not there."""
    text = str(left.pop(name, 0))
    if not text.isascii() or not text.isdecimal():
        raise _invalid(f"Parameter '{name}' expects a number")
    return min(int(text), (1 << 32) - 1)  # QEMU's counter; also within what a lock can wait


def _server_of(left: dict[str, Any]) -> NbdAddress:
    """Take the server out of the options, in any of its three spellings."""
    if "filename" in left:
        if left.keys() & {"host", "path", "server"}:
            raise _invalid("host/port/path and file names may not be specified at the same time")
        return parse_nbd_name(str(left.pop("filename")))
    server = left.pop("server", None)
    if isinstance(server, dict):
        return _socket_address(server)
    if "path" in left:
        if "host" in left:
            raise _invalid("path and host may not be used at the same time")
        return NbdAddress(path=str(left.pop("path")))
    if "host" in left:
        host = str(left.pop("host"))
        return NbdAddress(host, str(left.pop("port", DEFAULT_PORT)), tls_hostname=host)
    raise _invalid("NBD server address missing")


def _socket_address(server: Mapping[str, Any]) -> NbdAddress:
    kind = str(server.get("type"))
    needed = {"inet": ("host", "port"), "unix": ("path",)}.get(kind)
    if needed is None:
        raise _invalid(f"Parameter 'type' does not accept value '{kind}'")
    for name in needed:
        if name not in server:
            raise _invalid(f"Parameter '{name}' is missing")
    if kind == "unix":
        return NbdAddress(path=str(server["path"]))
    host = str(server["host"])
    return NbdAddress(host, str(server["port"]), tls_hostname=host)
