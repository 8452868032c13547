"""TLS with pre-shared keys, on Pythons whose ssl module can and on those where OpenSSL must help.

Python 3.13 brings `SSLContext.set_psk_*_callback`. Before that the same two OpenSSL functions
are called through ctypes on the context's own SSL_CTX.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from collections.abc import Callable, Mapping

from pytcg.tls.errors import TlsError
from pytcg.typed import Any

# The callbacks of the older kind are defined for TLS 1.2; ECDHE gives each session its own key.
_CIPHERS = "ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK:DHE-PSK:PSK"
_SERVER = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint
)
_CLIENT = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p,
    ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint,
)
# OpenSSL keeps a bare pointer to the callback, so the thunk lives as long as the process.
_THUNKS: list[Any] = []


def install_server_keys(context: ssl.SSLContext, keys: Mapping[str, bytes]) -> None:
    """Accept clients that name a user of `keys` and know the key."""
    _prepare(context)
    setter = getattr(context, "set_psk_server_callback", None)
    if setter is not None:
        setter(lambda identity: keys.get(identity or "", b""))
        return

    def find(_ssl: int, identity: bytes | None, out: int, room: int) -> int:
        return _copy(keys.get((identity or b"").decode(errors="replace"), b""), out, room)

    _set_native(context, "SSL_CTX_set_psk_server_callback", _SERVER(find))


def install_client_key(context: ssl.SSLContext, user: str, key: bytes) -> None:
    """Be `user`, who knows `key`."""
    _prepare(context)
    setter = getattr(context, "set_psk_client_callback", None)
    if setter is not None:
        setter(lambda hint: (user, key))
        return

    def answer(_ssl: int, _hint: bytes | None, name: int, name_room: int,
               out: int, room: int) -> int:
        if not _copy(user.encode() + b"\0", name, name_room):
            return 0
        return _copy(key, out, room)

    _set_native(context, "SSL_CTX_set_psk_client_callback", _CLIENT(answer))


def _prepare(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)


def _copy(data: bytes, target: int, room: int) -> int:
    """Copy into OpenSSL's buffer; 0, which refuses the handshake, if it has no room."""
    if len(data) > room:
        return 0
    # Safe: OpenSSL says that `room` bytes at `target` are ours to fill.
    ctypes.memmove(target, data, len(data))
    return len(data)


def _set_native(context: ssl.SSLContext, name: str, thunk: Callable[..., int]) -> None:
    import _ssl

    if sys.implementation.name != "cpython" or not hasattr(_ssl, "__file__"):
        raise TlsError("TLS with pre-shared keys needs Python 3.13 or later")
    # Loading the module that is loaded already: its handle also finds the OpenSSL it links to.
    setter = getattr(ctypes.CDLL(_ssl.__file__), name)
    setter.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    setter.restype = None
    # The SSL_CTX pointer is the first field after the object header in CPython 3.6 to 3.12, and
    # later versions have the method tried above.
    field = id(context) + object.__basicsize__
    ssl_ctx = ctypes.c_void_p.from_address(field).value
    _THUNKS.append(thunk)
    setter(ssl_ctx, ctypes.cast(thunk, ctypes.c_void_p))  # type: ignore[arg-type]
