"""The server's side of fixed newstyle negotiation: options in, a session out."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytcg.block.protocols.nbd.channel import Channel, ConnectionLost, TlsChannel
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import (
    CLIENT_FLAGS,
    DIRTY_BITMAP,
    EXPORT_NAME_REPLY,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    MAX_OPTION_DATA,
    MAX_PAYLOAD,
    MAX_STRING,
    NBD_MAGIC,
    OPTION,
    OPTS_MAGIC,
    PREFERRED_BLOCK,
    U16,
    U32,
    Cursor,
    HandshakeFlag,
    Info,
    NbdError,
    Option,
    Reply,
    pack_option_reply,
    pack_string,
    parse_info_request,
    parse_meta_request,
)


@dataclass
class Session:
    """What a client and the server have agreed on."""

    channel: Channel
    export: Export
    structured: bool = False
    contexts: list[int] = field(default_factory=list)  # ids, as the client was told


class Refused(Exception):
    """An option answered with an error reply; negotiation goes on."""

    def __init__(self, reply: Reply, message: str) -> None:
        super().__init__(message)
        self.reply = reply


class Handshake:
    """Negotiates with one client. With `tls`, nothing is told before the client starts TLS."""

    def __init__(self, channel: Channel, exports: Mapping[str, Export],
                 tls: ssl.SSLContext | None) -> None:
        self._channel = channel
        self._exports = exports
        self._tls = tls
        self._no_zeroes = False
        self._structured = False
        self._secure = False
        self._meta_export: Export | None = None
        self._contexts: list[int] = []
        self._done: Session | None = None
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            Option.LIST: self._list,
            Option.STARTTLS: self._starttls,
            Option.INFO: self._info,
            Option.GO: self._info,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._meta_context,
            Option.SET_META_CONTEXT: self._meta_context,
        }

    @property
    def channel(self) -> Channel:
        """The channel in use: TLS puts another one over the first."""
        return self._channel

    def run(self) -> Session | None:
        """Negotiate; None if the client took leave. Raises NbdError, ConnectionLost."""
        ours = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self._channel.send(GREETING.pack(NBD_MAGIC, OPTS_MAGIC, ours))
        (flags,) = CLIENT_FLAGS.unpack(self._channel.receive(CLIENT_FLAGS.size))
        if flags & ~ours:
            raise NbdError(f"unknown client flags 0x{flags:x}")
        self._no_zeroes = bool(flags & HandshakeFlag.NO_ZEROES)
        fixed = bool(flags & HandshakeFlag.FIXED_NEWSTYLE)
        while self._done is None:
            magic, option, length = OPTION.unpack(self._channel.receive(OPTION.size))
            if magic != OPTS_MAGIC:
                raise NbdError("bad option magic received")
            if option == Option.EXPORT_NAME:
                self._export_name(length)
            elif not fixed:
                raise NbdError("option from a client without fixed newstyle")
            elif option == Option.ABORT:
                self._abort(length)
                return None
            else:
                self._option(option, length)
        return self._done

    def _reply(self, option: int, reply: Reply, data: bytes = b"") -> None:
        self._channel.send(pack_option_reply(option, reply, data))

    def _abort(self, length: int) -> None:
        self._channel.drain(min(length, MAX_OPTION_DATA))
        self._reply(Option.ABORT, Reply.ACK)

    def _option(self, option: int, length: int) -> None:
        try:
            data = self._option_data(length)
            if self._tls is not None and not self._secure and option != Option.STARTTLS:
                raise Refused(Reply.ERR_TLS_REQD, f"Option 0x{option:x} not permitted before TLS")
            handler = self._handlers.get(option)
            if handler is None:
                raise Refused(Reply.ERR_UNSUP, f"Unsupported option {option}")
            handler(option, data)
        except Refused as refusal:
            self._reply(option, refusal.reply, str(refusal).encode()[:MAX_STRING])
        except NbdError as error:  # a malformed body: the option alone fails
            self._reply(option, Reply.ERR_INVALID, str(error).encode()[:MAX_STRING])

    def _option_data(self, length: int) -> bytes:
        if length > MAX_PAYLOAD:
            raise ConnectionLost(f"option of {length} bytes is too long")
        if length > MAX_OPTION_DATA:
            self._channel.drain(length)
            raise Refused(Reply.ERR_TOO_BIG, f"option data of {length} bytes is too long")
        return bytes(self._channel.receive(length))

    def _find(self, name: str) -> Export:
        export = self._exports.get(name)
        if export is None:
            raise Refused(Reply.ERR_UNKNOWN, f"export '{name}' not present")
        return export

    def _finish(self, export: Export) -> None:
        # Contexts hold for the export they were asked for.
        contexts = self._contexts if export is self._meta_export else []
        self._done = Session(self._channel, export, self._structured, contexts)

    def _export_name(self, length: int) -> None:
        # This option knows no error reply: all that is left is to hang up.
        if length > MAX_STRING:
            raise NbdError(f"export name of {length} bytes is too long")
        name = Cursor(bytes(self._channel.receive(length))).text(length)
        if self._tls is not None and not self._secure:
            raise NbdError("EXPORT_NAME before TLS")
        export = self._exports.get(name)
        if export is None:
            raise NbdError(f"export '{name}' not present")
        flags = export.flags(structured=self._structured)
        padding = b"" if self._no_zeroes else bytes(124)
        self._channel.send(EXPORT_NAME_REPLY.pack(export.size, flags), padding)
        self._finish(export)

    def _list(self, option: int, data: bytes) -> None:
        if data:
            raise NbdError("LIST carries no data")
        for export in self._exports.values():
            entry = pack_string(export.name) + export.description.encode()
            self._reply(option, Reply.SERVER, entry)
        self._reply(option, Reply.ACK)

    def _starttls(self, option: int, data: bytes) -> None:
        if data:
            raise NbdError("STARTTLS carries no data")
        if self._tls is None:
            raise Refused(Reply.ERR_POLICY, "TLS not configured")
        if self._secure:
            raise NbdError("TLS is already on")
        self._reply(option, Reply.ACK)
        self._channel = TlsChannel(self._channel, self._tls, server_side=True)
        self._secure = True
        # What was agreed in the clear counts for nothing.
        self._structured, self._meta_export, self._contexts = False, None, []

    def _structured_reply(self, option: int, data: bytes) -> None:
        if data:
            raise NbdError("STRUCTURED_REPLY carries no data")
        if self._structured:
            raise NbdError("structured replies were already negotiated")
        self._structured = True
        self._reply(option, Reply.ACK)

    def _info(self, option: int, data: bytes) -> None:
        name, wanted = parse_info_request(data)
        export = self._find(name)
        if Info.NAME in wanted:
            self._reply(option, Reply.INFO, U16.pack(Info.NAME) + export.name.encode())
        if Info.DESCRIPTION in wanted and export.description:
            text = U16.pack(Info.DESCRIPTION) + export.description.encode()
            self._reply(option, Reply.INFO, text)
        least = export.min_block if option == Option.INFO or Info.BLOCK_SIZE in wanted else 1
        sizes = INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, least, PREFERRED_BLOCK, MAX_PAYLOAD)
        self._reply(option, Reply.INFO, sizes)
        flags = export.flags(structured=self._structured)
        self._reply(option, Reply.INFO, INFO_EXPORT.pack(Info.EXPORT, export.size, flags))
        self._reply(option, Reply.ACK)
        if option == Option.GO:
            self._finish(export)

    def _meta_context(self, option: int, data: bytes) -> None:
        listing = option == Option.LIST_META_CONTEXT
        if not listing:  # even a failed request drops what was set before
            self._meta_export, self._contexts = None, []
        if not self._structured:
            raise NbdError("request option before structured reply negotiated")
        name, queries = parse_meta_request(data)
        export = self._find(name)
        offered = export.contexts()
        matched = _matching(offered, queries, listing=listing)
        for context in matched:
            number = 0 if listing else offered[context]
            self._reply(option, Reply.META_CONTEXT, U32.pack(number) + context.encode())
        if not listing:
            self._meta_export = export
            self._contexts = [offered[context] for context in matched]
        self._reply(option, Reply.ACK)


def _matching(offered: Mapping[str, int], queries: list[str], *, listing: bool) -> list[str]:
    """Contexts the queries select; a bare namespace selects all of it, but only in a listing."""
    if listing and not queries:
        return list(offered)
    wanted = set(queries)
    if not listing:
        return [name for name in offered if name in wanted]
    prefixes = tuple(q for q in wanted if q in ("base:", "qemu:", DIRTY_BITMAP))
    return [name for name in offered
            if name in wanted or (prefixes and name.startswith(prefixes))]
