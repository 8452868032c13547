"""TLS credentials: QEMU's tls-creds-x509, tls-creds-psk and, for servers, tls-creds-anon.

An x509 directory holds ca-cert.pem and {server,client}-{cert,key}.pem; a psk directory holds
keys.psk with a line `username:hexkey` per user.
"""

from __future__ import annotations

import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from pytcg.block.options import parse_bool, parse_keyval
from pytcg.tls.errors import TlsError as TlsError
from pytcg.tls.psk import install_client_key, install_server_keys

_KINDS = ("tls-creds-x509", "tls-creds-psk", "tls-creds-anon")
_ANONYMOUS = "AECDH:@SECLEVEL=0"  # a key agreement without certificates
_COMMON = {"qom-type", "id", "dir", "endpoint", "verify-peer", "priority"}
_OPTIONS = {
    "tls-creds-x509": _COMMON | {"sanity-check", "passwordid"},
    "tls-creds-psk": _COMMON | {"username"},
    "tls-creds-anon": _COMMON,
}


@dataclass(frozen=True)
class TlsCredentials:
    """One `--object tls-creds-…`."""

    kind: str
    ident: str
    directory: str
    endpoint: str = "client"
    verify_peer: bool = True
    username: str = "qemu"

    @classmethod
    def parse(cls, text: str) -> TlsCredentials:
        """Read `tls-creds-x509,id=…,dir=…,endpoint=…`."""
        options = parse_keyval(text, implied="qom-type")
        kind = options.get("qom-type", "")
        if kind not in _KINDS:
            raise TlsError(f"Parameter 'qom-type' does not accept value '{kind}'")
        if not options.get("id"):
            raise TlsError("Parameter 'id' is missing")
        for name in sorted(options.keys() - _OPTIONS[kind]):
            raise TlsError(f"Parameter '{name}' is unexpected")
        for name in ("passwordid", "priority"):
            if name in options:
                raise TlsError(f"Parameter '{name}' is not supported")
        endpoint = options.get("endpoint", "client")
        if endpoint not in ("client", "server"):
            raise TlsError(f"Parameter 'endpoint' does not accept value '{endpoint}'")
        verify = parse_bool("verify-peer", options.get("verify-peer", True))
        return cls(kind, options["id"], options.get("dir", ""), endpoint, verify,
                   options.get("username", "qemu"))

    def server_context(self) -> ssl.SSLContext:
        """For the listening side."""
        if self.endpoint != "server":
            raise TlsError("Expecting TLS credentials with a server endpoint")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.kind == "tls-creds-anon":
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones have none without
            context.set_ciphers(_ANONYMOUS)
            return context
        if self.kind == "tls-creds-psk":
            install_server_keys(context, self._psk_keys())
            return context
        self._load_authority(context)
        self._load_own(context, "server", needed=True)
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        return context

    def client_context(self, hostname: str | None) -> ssl.SSLContext:
        """For the connecting side; the certificate must name `hostname`, if there is one."""
        if self.endpoint != "client":
            raise TlsError("Expecting TLS credentials with a client endpoint")
        if self.kind == "tls-creds-anon":
            raise TlsError("anonymous TLS credentials are not supported")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        if self.kind == "tls-creds-psk":
            context.verify_mode = ssl.CERT_NONE  # both prove that they know the key
            key = self._psk_keys().get(self.username)
            if key is None:
                raise TlsError(f"No TLS pre-shared key for user {self.username}")
            install_client_key(context, self.username, key)
            return context
        if self.verify_peer and hostname is None:
            raise TlsError("No hostname for certificate validation")
        self._load_authority(context)
        self._load_own(context, "client", needed=False)
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        context.check_hostname = self.verify_peer
        return context

    def _path(self, name: str) -> str:
        path = os.path.join(self.directory, name)
        try:
            with open(path, "rb"):
                return path
        except OSError as error:
            raise TlsError(f"Unable to access credentials {path}: {error.strerror}") from None

    def _load_authority(self, context: ssl.SSLContext) -> None:
        path = self._path("ca-cert.pem")
        try:
            context.load_verify_locations(path)
            revoked = os.path.join(self.directory, "ca-crl.pem")
            if os.path.exists(revoked):
                context.load_verify_locations(revoked)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"Unable to load certificates from {path}: {error}") from None

    def _load_own(self, context: ssl.SSLContext, role: str, *, needed: bool) -> None:
        names = [f"{role}-cert.pem", f"{role}-key.pem"]
        present = [os.path.exists(os.path.join(self.directory, name)) for name in names]
        if not needed and not any(present):
            return
        cert, key = (self._path(name) for name in names)
        try:
            # Without a password callback OpenSSL would ask on the terminal.
            context.load_cert_chain(cert, key, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"Unable to load certificate {cert}: {error}") from None

    def _psk_keys(self) -> dict[str, bytes]:
        return read_psk_file(self._path("keys.psk"))


def read_psk_file(path: str) -> dict[str, bytes]:
    """Keys by user name. Raises TlsError."""
    keys: dict[str, bytes] = {}
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                user, colon, key = line.strip().partition(":")
                if colon and not user.startswith("#"):
                    keys[user] = binascii.unhexlify(key)
    except OSError as error:
        raise TlsError(f"Unable to access credentials {path}: {error.strerror}") from None
    except ValueError:
        raise TlsError(f"Unable to load pre-shared keys from {path}") from None
    return keys


_OBJECTS: dict[str, TlsCredentials] = {}


def add_object(text: str) -> None:
    """Take one `--object` argument, for block devices to refer to by its id.

    A `secret` has no effect: nothing here is encrypted with one.
    """
    if text.partition(",")[0].removeprefix("qom-type=") == "secret":
        return
    credentials = TlsCredentials.parse(text)
    if credentials.ident in _OBJECTS:
        raise TlsError(f"attempt to add duplicate property '{credentials.ident}'")
    _OBJECTS[credentials.ident] = credentials


def remove_object(ident: str) -> None:
    """Nobody refers to it by its id any more."""
    _OBJECTS.pop(ident, None)


def find_object(ident: str, objects: Mapping[str, TlsCredentials] = _OBJECTS) -> TlsCredentials:
    """The credentials with this id."""
    if ident not in objects:
        raise TlsError(f"No TLS credentials with id '{ident}'")
    return objects[ident]
