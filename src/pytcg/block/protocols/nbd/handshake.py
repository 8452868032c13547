"""The client's side of negotiation: connect, agree on the features, choose or list exports."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd.address import NbdAddress
from pytcg.block.protocols.nbd.channel import Channel, ConnectionLost, TlsChannel, TlsFailed
from pytcg.block.protocols.nbd.protocol import (
    BASE_ALLOCATION,
    CLIENT_FLAGS,
    ERROR_BIT,
    EXPORT_NAME_REPLY,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    MAX_PAYLOAD,
    NBD_MAGIC,
    OLDSTYLE_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    OPTS_MAGIC,
    Cursor,
    HandshakeFlag,
    Info,
    NbdError,
    Option,
    Reply,
    TransmissionFlag,
    pack_info_request,
    pack_meta_request,
    pack_option,
)
from pytcg.tls.credentials import TlsError

#: Longest reply to an option that we listen to.
_MAX_REPLY = 64 << 10
#: Most replies to one option: a server may list this many exports or contexts.
_MAX_REPLIES = 10_000
#: A server that says nothing for this long is taken for dead.
HANDSHAKE_SECONDS = 60.0
_MAX_SIZE = (1 << 63) - 1
_NO_FLAGS = TransmissionFlag(0)


@dataclass
class ExportInfo:
    """What a server says of an export."""

    name: str
    size: int = 0
    flags: TransmissionFlag = _NO_FLAGS
    description: str = ""
    min_block: int = 0  # 0: the server does not say
    opt_block: int = 0
    max_block: int = 0
    contexts: dict[str, int] = field(default_factory=dict)


class Unsupported(NbdError):
    """The server does not know the option."""


class ClientHandshake:
    """A connection in negotiation. Raises BlockError in QEMU's words."""

    def __init__(self, address: NbdAddress) -> None:
        self._address = address
        self.structured = False
        self._fixed = False
        self._no_zeroes = False
        self._oldstyle: ExportInfo | None = None
        self.channel = Channel(address.connect())
        try:
            self.channel.set_deadline(HANDSHAKE_SECONDS)
            self._greet()
            if address.tls is not None:
                self._start_tls()
            if self._fixed:
                self.structured = self._agree(Option.STRUCTURED_REPLY)
        except BaseException as error:
            self.channel.close()
            _raise_as_block_error(error)

    def open(self, context: str = BASE_ALLOCATION) -> ExportInfo:
        """Choose the address's export, with a metadata context if the server has it."""
        try:
            info = self._open(self._address.export, context)
            self.channel.set_deadline(None)
            return info
        except BaseException as error:
            self.channel.close()
            _raise_as_block_error(error)
            raise

    def list_exports(self) -> list[ExportInfo]:
        """All exports with what INFO tells of each; then leave."""
        try:
            return self._list()
        except BaseException as error:
            _raise_as_block_error(error)
            raise
        finally:
            self.channel.close()

    # ---- steps ----

    def _greet(self) -> None:
        magic, kind = (int.from_bytes(self.channel.receive(8), "big") for _ in range(2))
        if magic != NBD_MAGIC:
            raise NbdError(f"Bad initial magic received: 0x{magic:016x}")
        if kind == OLDSTYLE_MAGIC:
            self._greet_oldstyle()
            return
        if kind != OPTS_MAGIC:
            raise NbdError(f"Bad server magic received: 0x{kind:016x}")
        flags = HandshakeFlag(int.from_bytes(self.channel.receive(GREETING.size - 16), "big"))
        self._fixed = HandshakeFlag.FIXED_NEWSTYLE in flags
        self._no_zeroes = HandshakeFlag.NO_ZEROES in flags
        known = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self.channel.send(CLIENT_FLAGS.pack(flags & known))

    def _greet_oldstyle(self) -> None:
        if self._address.tls is not None:
            raise NbdError("Server does not support STARTTLS")
        if self._address.export:
            raise NbdError("Server does not support non-empty export names")
        size = int.from_bytes(self.channel.receive(8), "big")
        flags = int.from_bytes(self.channel.receive(4), "big")
        self.channel.drain(124)
        self._oldstyle = _checked(ExportInfo("", size, TransmissionFlag(flags & 0xFFFF)))

    def _start_tls(self) -> None:
        assert self._address.tls is not None
        context = self._address.tls.client_context(self._address.tls_hostname)
        if not self._fixed or not self._try(Option.STARTTLS):
            raise NbdError("Server does not support STARTTLS")
        hostname = self._address.tls_hostname if context.check_hostname else None
        self.channel = TlsChannel(self.channel, context, server_side=False, hostname=hostname)

    def _open(self, name: str, context: str) -> ExportInfo:
        if self._oldstyle is not None:
            return self._oldstyle
        contexts: dict[str, int] = {}
        if self.structured:
            contexts = self._meta_contexts(Option.SET_META_CONTEXT, name, [context])
        if self._fixed:
            try:
                info = self._info(Option.GO, name)
                info.contexts = contexts
                return info
            except Unsupported:
                pass
        info = self._export_name(name)
        info.contexts = contexts
        return info

    def _list(self) -> list[ExportInfo]:
        if self._oldstyle is not None:
            return [self._oldstyle]
        found: list[ExportInfo] = []
        for kind, data in self._ask(Option.LIST):
            if kind == Reply.SERVER:
                cursor = Cursor(data)
                found.append(ExportInfo(cursor.string()))
                found[-1].description = cursor.text(cursor.left)
        detailed = [self._describe(export) for export in found]
        self.channel.send(pack_option(Option.ABORT))
        return detailed

    def _describe(self, listed: ExportInfo) -> ExportInfo:
        try:
            info = self._info(Option.INFO, listed.name)
            info.description = info.description or listed.description
            if self.structured:
                info.contexts = self._meta_contexts(Option.LIST_META_CONTEXT, listed.name, [])
        except Unsupported:
            return listed
        return info

    # ---- options ----

    def _ask(self, option: Option, data: bytes = b"") -> Iterator[tuple[int, bytes]]:
        """Send an option and yield its replies up to the ACK. Errors become NbdError."""
        self.channel.send(pack_option(option, data))
        for _ in range(_MAX_REPLIES):
            kind, body = self._reply(option)
            if kind == Reply.ACK:
                return
            if kind & ERROR_BIT:
                raise _refusal(kind, body, option)
            yield kind, body
        raise NbdError(f"server does not stop answering option {option}")

    def _reply(self, option: Option) -> tuple[int, bytes]:
        magic, echoed, kind, length = OPTION_REPLY.unpack(self.channel.receive(OPTION_REPLY.size))
        if magic != OPTION_REPLY_MAGIC:
            raise NbdError("Unexpected option reply magic")
        if echoed != option:
            raise NbdError(f"Unexpected option type {echoed}, expected {option:d}")
        if length > _MAX_REPLY:
            raise NbdError(f"option reply of {length} bytes is too long")
        return kind, bytes(self.channel.receive(length))

    def _try(self, option: Option) -> bool:
        """Whether the server grants an option without a body."""
        try:
            for _ in self._ask(option):
                raise NbdError(f"unexpected reply to option {option:d}")
        except Unsupported:
            return False
        return True

    def _agree(self, option: Option) -> bool:
        """As `_try`; whatever keeps the server from granting it stands in what follows, too."""
        try:
            return self._try(option)
        except _Rejected:
            return False

    def _info(self, option: Option, name: str) -> ExportInfo:
        wanted = [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE]
        info = ExportInfo(name)
        told = False
        for kind, body in self._ask(option, pack_info_request(name, wanted)):
            if kind != Reply.INFO or len(body) < 2:
                raise NbdError(f"unexpected reply type {kind} to option {option:d}")
            told |= _take_info(info, body)
        if not told:
            raise NbdError("server did not tell the size of the export")
        return _checked(info)

    def _meta_contexts(self, option: Option, name: str, queries: Iterable[str]
                       ) -> dict[str, int]:
        contexts: dict[str, int] = {}
        try:
            for kind, body in self._ask(option, pack_meta_request(name, queries)):
                if kind != Reply.META_CONTEXT:
                    raise NbdError(f"unexpected reply type {kind} to option {option:d}")
                cursor = Cursor(body)
                number = cursor.u32()
                contexts[cursor.text(cursor.left)] = number
        except (Unsupported, _Rejected):
            return {}  # GO says better what is wrong with the export
        return contexts

    def _export_name(self, name: str) -> ExportInfo:
        self.channel.send(pack_option(Option.EXPORT_NAME, name.encode()))
        size, flags = EXPORT_NAME_REPLY.unpack(self.channel.receive(EXPORT_NAME_REPLY.size))
        if not self._no_zeroes:
            self.channel.drain(124)
        return _checked(ExportInfo(name, size, TransmissionFlag(flags)))


class _Rejected(NbdError):
    """An error reply that concerns this request alone."""


_WORDS: dict[int, str] = {
    Reply.ERR_POLICY: "Denied by server for option {option} ({name})",
    Reply.ERR_INVALID: "Invalid parameters for option {option} ({name})",
    Reply.ERR_PLATFORM: "Server lacks support for option {option} ({name})",
    Reply.ERR_TLS_REQD: "TLS negotiation required before option {option} ({name})\n"
                        "Did you forget a valid tls-creds?",
    Reply.ERR_UNKNOWN: "Requested export not available",
    Reply.ERR_SHUTDOWN: "Server shutting down before option {option} ({name})",
    Reply.ERR_BLOCK_SIZE_REQD: "Server requires INFO_BLOCK_SIZE for option {option} ({name})",
}


def _refusal(kind: int, body: bytes, option: Option) -> NbdError:
    if kind == Reply.ERR_UNSUP:
        return Unsupported(f"Server does not know option {option:d}")
    text = _WORDS.get(kind, "Unknown error code when asking for option {option} ({name})")
    text = text.format(option=int(option), name=option.name.lower().replace("_", " "))
    said = body[:4096].decode(errors="replace")
    if said:
        text += f"\nserver reported: {said}"
    return _Rejected(text)


def _take_info(info: ExportInfo, body: bytes) -> bool:
    """Take one INFO item; whether it was the one that must be there."""
    kind = int.from_bytes(body[:2], "big")
    if kind == Info.EXPORT:
        if len(body) != INFO_EXPORT.size:
            raise NbdError("INFO_EXPORT has a wrong length")
        _, info.size, flags = INFO_EXPORT.unpack(body)
        info.flags = TransmissionFlag(flags)
        return True
    if kind == Info.BLOCK_SIZE:
        if len(body) != INFO_BLOCK_SIZE.size:
            raise NbdError("INFO_BLOCK_SIZE has a wrong length")
        _, info.min_block, info.opt_block, info.max_block = INFO_BLOCK_SIZE.unpack(body)
    elif kind == Info.DESCRIPTION:
        info.description = Cursor(body[2:]).text(len(body) - 2)
    return False


def _checked(info: ExportInfo) -> ExportInfo:
    """Refuse sizes that can't be worked with."""
    if info.size > _MAX_SIZE:
        raise NbdError(f"export length {info.size} is too large")
    low, high = info.min_block, info.max_block
    if low and (low & (low - 1) or low > 64 << 10):
        raise NbdError(f"server advertised a minimum block size of {low}")
    if high and (high < low or (low and high % low)):
        raise NbdError(f"server advertised a maximum block size of {high}")
    if high and high < min(4096, MAX_PAYLOAD) and high != info.size:
        raise NbdError(f"server advertised a maximum block size of {high}")
    return info


def _raise_as_block_error(error: BaseException) -> None:
    if isinstance(error, (NbdError, TlsError)):
        raise BlockError(str(error), errno.EINVAL) from None
    if isinstance(error, TlsFailed):
        raise BlockError(str(error), errno.EIO) from None
    if isinstance(error, ConnectionLost):
        raise BlockError(f"Failed to negotiate with the server: {error}", errno.EIO) from None
    raise error
