"""The client as a BlockDevice: against our own server, against hostile ones, and its names."""

from __future__ import annotations

import errno
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import open_image
from pytcg.block.protocols.nbd import handshake as nbd_handshake
from pytcg.block.protocols.nbd.address import NbdAddress, parse_nbd_name, parse_options
from pytcg.block.protocols.nbd.channel import Channel, ConnectionLost
from pytcg.block.protocols.nbd.client import NbdDevice, open_nbd
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import (
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    NBD_MAGIC,
    OLDSTYLE_MAGIC,
    OPTION,
    OPTS_MAGIC,
    REQUEST,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY,
    STRUCTURED_REPLY_MAGIC,
    Info,
    Option,
    Reply,
    pack_option_reply,
)
from pytcg.block.protocols.nbd.server import listen_unix

from .nbd_support import MemoryDisk, serving, uri

SIZE = 256 << 10


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk(bytes(SIZE // 2) + random.Random(3).randbytes(SIZE // 2))


@pytest.fixture
def device(tmp_path: Path, disk: MemoryDisk) -> Iterator[BlockDevice]:
    with serving(tmp_path, Export(disk, shared=True)) as path:
        opened = open_nbd({"filename": uri(path)})
        yield opened
        opened.close()


def test_open_image_takes_a_uri(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk, name="a b")) as path:
        with open_image(uri(path, "a%20b"), format="raw") as image:
            assert image.size == SIZE
            assert image.pread(0, SIZE) == disk.data
        options = f"driver=nbd,server.type=unix,server.path={path},export=a b"
        with open_image(options, image_opts=True) as image:
            assert image.pread(SIZE // 2, 4096) == disk.data[SIZE // 2 : SIZE // 2 + 4096]


def test_block_status_shows_the_hole(device: BlockDevice) -> None:
    extents = device.block_status(0, SIZE)
    assert [(e.length, e.data, e.zero) for e in extents] == [
        (SIZE // 2, False, True), (SIZE // 2, True, False)]


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("rwzdfc"), st.integers(0, SIZE - 1),
                          st.integers(1, 70_000), st.integers(0, 255)), max_size=25))
def test_any_operations_match_a_bytearray(device: BlockDevice, disk: MemoryDisk,
                                          operations: list[tuple[str, int, int, int]]) -> None:
    model = bytearray(disk.data)
    for kind, offset, length, byte in operations:
        length = min(length, SIZE - offset)
        span = slice(offset, offset + length)
        match kind:
            case "r":
                assert device.pread(offset, length) == model[span]
            case "w":
                data = bytes([byte]) * length
                device.pwrite(offset, data, fua=bool(byte & 1))
                model[span] = data
            case "z" | "d":
                method = device.write_zeroes if kind == "z" else device.discard
                method(offset, length)
                model[span] = bytes(length)
            case "f":
                device.flush()
            case "c":
                device.cache_range(offset, length)
    assert device.pread(0, SIZE) == model == disk.data


def test_threads_share_one_connection(device: BlockDevice, disk: MemoryDisk) -> None:
    def work(number: int) -> bool:
        mine = range(number * 4096, SIZE, 8 * 4096)
        for offset in mine:
            device.pwrite(offset, bytes([number]) * 4096)
        return all(device.pread(offset, 4096) == bytes([number]) * 4096 for offset in mine)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert disk.data == b"".join(bytes([n]) * 4096 for n in range(8)) * (SIZE // 32768)


def test_errors_come_with_the_server_s_words(device: BlockDevice) -> None:
    with pytest.raises(BlockError) as caught:
        device.pread(SIZE - 1, 2)  # refused on our side
    assert caught.value.errno == errno.EIO
    with pytest.raises(BlockError, match="Cannot resize"):
        device.truncate(1)


def test_a_read_only_export_must_be_opened_so(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk, read_only=True)) as path:
        with pytest.raises(BlockError, match="Permission denied"):
            open_nbd({"filename": uri(path)})
        with open_nbd({"filename": uri(path)}, read_only=True) as image:
            assert image.pread(0, 512) == bytes(512)
            with pytest.raises(BlockError, match="read-only"):
                image.pwrite(0, b"x")


def test_an_unknown_export_is_named_by_the_server(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk)) as path, pytest.raises(BlockError) as caught:
        open_nbd({"filename": uri(path, "nosuch")})
    assert "Requested export not available" in str(caught.value)
    assert "export 'nosuch' not present" in str(caught.value)


def test_a_lost_server_fails_every_request(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk)) as path:
        image = open_nbd({"filename": uri(path)})
    for _ in range(2):
        with pytest.raises(BlockError, match="disconnected"):
            image.pread(0, 512)
    image.close()


def test_a_dirty_bitmap_can_be_asked_for(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk, bitmaps=("changes",))) as path:
        options = {"path": path, "x-dirty-bitmap": "qemu:dirty-bitmap:changes"}
        with open_nbd(options) as image:
            runs = [(e.length, e.data) for e in image.block_status(0, 2048)]
        assert runs == [(512, False), (512, True), (512, False), (512, True)]
        with pytest.raises(BlockError, match="not found"):
            open_nbd({"path": path, "x-dirty-bitmap": "qemu:dirty-bitmap:nosuch"})


# ---- names ----


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("nbd://h", NbdAddress("h", tls_hostname="h")),
        ("nbd://h:1/x", NbdAddress("h", "1", export="x", tls_hostname="h")),
        ("nbd://[::1]:9/", NbdAddress("::1", "9", tls_hostname="::1")),
        ("nbd+tcp://h//x%3F", NbdAddress("h", export="/x?", tls_hostname="h")),
        ("nbd+unix:///?socket=/a", NbdAddress(path="/a")),
        ("nbd+unix:///e?socket=/a%20b", NbdAddress(path="/a b", export="e")),
        ("nbd:h:1", NbdAddress("h", "1")),
        ("nbd:h:1:exportname=e:f", NbdAddress("h", "1", export="e:f")),
        ("nbd:unix:/a", NbdAddress(path="/a")),
        ("nbd:unix:/a:exportname=e", NbdAddress(path="/a", export="e")),
    ],
)
def test_names(name: str, address: NbdAddress) -> None:
    assert parse_nbd_name(name) == address


@pytest.mark.parametrize("name", [
    "nbd://", "nbd:///x", "nbd+unix:///x", "nbd+unix:///x?sock=/a", "nbd:x", "nbd:", "nbds://h",
    "nbd://h:x/", "nbd://h:99999/", "nbd+foo://h", "nbd://h/" + "x" * 5000, "nbd://[::1/",
])
def test_bad_names(name: str) -> None:
    with pytest.raises(BlockError):
        parse_nbd_name(name)


@given(st.text(max_size=20))
def test_any_name_is_understood_or_refused(text: str) -> None:
    for prefix in ("", "nbd:", "nbd://", "nbd+unix:///", "nbds://h?"):
        try:
            parse_nbd_name(prefix + text)
        except BlockError as error:
            assert error.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "NBD server address missing"),
        ({"host": "h", "path": "/p"}, "path and host"),
        ({"server": {"type": "foo"}}, "does not accept value 'foo'"),
        ({"server": {"type": "inet", "host": "h"}}, "Parameter 'port'"),
        ({"host": "h", "foo": "1"}, "foo"),
        ({"host": "h", "tls-creds": "nosuch"}, "No TLS credentials with id 'nosuch'"),
    ],
)
def test_bad_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(BlockError, match=message):
        parse_options(options)


def test_nobody_listening(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"Failed to connect to '.*nosuch': No such file"):
        open_nbd({"path": str(tmp_path / "nosuch")})
    with pytest.raises(BlockError, match=r"Failed to connect to '127.0.0.1:1': Connection refus"):
        open_nbd({"filename": "nbd://127.0.0.1:1"})


# ---- hostile servers ----


class Liar:
    """A server whose every step a test decides; it serves one client."""

    def __init__(self, path: str, script: Callable[[Channel], None]) -> None:
        self._listener: socket.socket = listen_unix(path)
        self._script = script
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        channel = Channel(sock)
        channel.set_deadline(10)
        try:
            self._script(channel)
        except ConnectionLost:
            pass  # the client saw through it
        finally:
            channel.close()

    def __enter__(self) -> Liar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join()
        self._listener.close()


def negotiate(channel: Channel, *, size: int = SIZE, min_block: int = 1,
              max_block: int = 32 << 20, flags: int = 0x1 | 0x4 | 0x8 | 0x20 | 0x40,
              structured: bool = True) -> None:
    """Be a plausible server up to the transmission phase."""
    channel.send(struct.pack(">QQH", NBD_MAGIC, OPTS_MAGIC, 3))
    channel.receive(4)
    while True:
        _, option, length = OPTION.unpack(channel.receive(OPTION.size))
        channel.receive(length)
        if option == Option.STRUCTURED_REPLY and not structured:
            channel.send(pack_option_reply(option, Reply.ERR_UNSUP))
            continue
        if option == Option.SET_META_CONTEXT:
            body = struct.pack(">I", 7) + b"base:allocation"
            channel.send(pack_option_reply(option, Reply.META_CONTEXT, body))
        if option == Option.GO:
            sizes = INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, min_block, 4096, max_block)
            channel.send(pack_option_reply(option, Reply.INFO, sizes))
            told = INFO_EXPORT.pack(Info.EXPORT, size, flags)
            channel.send(pack_option_reply(option, Reply.INFO, told))
        channel.send(pack_option_reply(option, Reply.ACK))
        if option == Option.GO:
            return


def next_request(channel: Channel) -> tuple[int, int, int, int]:
    """(command, cookie, offset, length) of the next request."""
    _, _, command, cookie, offset, length = REQUEST.unpack(channel.receive(REQUEST.size))
    return command, cookie, offset, length


def chunk(kind: int, cookie: int, body: bytes, *, flags: int = 1, length: int = -1) -> bytes:
    """A structured reply chunk, with a length of its own if need be."""
    size = len(body) if length < 0 else length
    return STRUCTURED_REPLY.pack(STRUCTURED_REPLY_MAGIC, flags, kind, cookie, size) + body


def data_at(offset: int, count: int = 512) -> bytes:
    """Payload of an OFFSET_DATA chunk."""
    return struct.pack(">Q", offset) + b"x" * count


LIES: dict[str, Callable[[int], bytes]] = {
    "bad magic": lambda cookie: b"\0" * 16,
    "unknown cookie": lambda cookie: chunk(1, cookie + 1, data_at(0)),
    "simple read reply": lambda cookie: SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, cookie),
    "data before the range": lambda cookie: chunk(1, cookie, data_at(0)),
    "data past the range": lambda cookie: chunk(1, cookie, data_at(4096 + 8)),
    "data far away": lambda cookie: chunk(1, cookie, data_at(2**64 - 512)),
    "empty data": lambda cookie: chunk(1, cookie, data_at(4096, 0)),
    "endless data": lambda cookie: chunk(1, cookie, data_at(4096), length=2**32 - 1),
    "huge hole": lambda cookie: chunk(2, cookie, struct.pack(">QI", 4096, 2**32 - 1)),
    "short hole": lambda cookie: chunk(2, cookie, b"1234"),
    "status nobody asked for": lambda cookie: chunk(5, cookie, bytes(12)),
    "endless status": lambda cookie: chunk(5, cookie, b"", length=2**32 - 4),
    "unknown chunk": lambda cookie: chunk(77, cookie, b""),
    "error without a code": lambda cookie: chunk(0x8001, cookie, bytes(6)),
    "error with a long text": lambda cookie: chunk(0x8001, cookie, b"", length=2**31),
    "too little": lambda cookie: chunk(1, cookie, data_at(4096, 100)),
    "nothing": lambda cookie: chunk(0, cookie, b""),
    "hang up": lambda cookie: b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_read_reply_is_an_error(tmp_path: Path, lie: str) -> None:
    def script(channel: Channel) -> None:
        negotiate(channel)
        channel.send(LIES[lie](next_request(channel)[1]))

    path = str(tmp_path / "s")
    with Liar(path, script):
        image = open_nbd({"path": path})
        with pytest.raises(BlockError):
            image.pread(4096, 512)
        image.close()


@pytest.mark.parametrize("pairs", [b"", struct.pack(">II", 0, 0), b"\0" * 7])
def test_a_lying_status_reply_is_an_error(tmp_path: Path, pairs: bytes) -> None:
    def script(channel: Channel) -> None:
        negotiate(channel)
        channel.send(chunk(5, next_request(channel)[1], struct.pack(">I", 7) + pairs))

    path = str(tmp_path / "s")
    with Liar(path, script):
        image = open_nbd({"path": path})
        with pytest.raises(BlockError):
            image.block_status(0, SIZE)
        image.close()


@pytest.mark.parametrize("seed", range(40))
def test_fuzz_replies(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    def script(channel: Channel) -> None:
        negotiate(channel)
        cookie = next_request(channel)[1]
        good = chunk(1, cookie, data_at(4096, 256), flags=0) + chunk(
            2, cookie, struct.pack(">QI", 4352, 256))
        bad = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        channel.send(bad)

    path = str(tmp_path / "s")
    with Liar(path, script):
        image = open_nbd({"path": path})
        try:
            assert len(image.pread(4096, 512)) == 512  # only payload bytes were hit
        except BlockError as error:
            assert str(error)
        image.close()


@pytest.mark.parametrize("seed", range(60))
def test_fuzz_negotiation(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd_handshake, "HANDSHAKE_SECONDS", 0.3)  # a length may announce too much
    rng = random.Random(seed)

    def script(channel: Channel) -> None:
        class Garbling(Channel):
            def send(self, *parts: bytes | bytearray | memoryview) -> None:
                data = bytearray(b"".join(parts))
                if rng.random() < 0.3:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                super().send(data)

        negotiate(Garbling(channel.sock))

    path = str(tmp_path / "s")
    with Liar(path, script):
        try:
            open_nbd({"path": path}).close()
        except BlockError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("told", "message"),
    [({"size": 2**64 - 1}, "too large"), ({"min_block": 3}, "minimum block size"),
     ({"min_block": 1 << 20}, "minimum block size"), ({"max_block": 100}, "maximum block size"),
     ({"min_block": 512, "max_block": 5000}, "maximum block size")],
)
def test_impossible_sizes_are_refused(tmp_path: Path, told: dict[str, int], message: str) -> None:
    path = str(tmp_path / "s")
    with (Liar(path, lambda channel: negotiate(channel, **told)),  # type: ignore[arg-type]
          pytest.raises(BlockError, match=message)):
        open_nbd({"path": path})


def serve_memory(channel: Channel, data: bytearray, *, align: int = 1) -> None:
    """A simple-reply server that insists on alignment."""
    while True:
        command, cookie, offset, length = next_request(channel)
        if command == 2:
            return
        assert offset % align == 0 and length % align == 0
        reply = SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, cookie)
        if command == 0:
            reply += data[offset : offset + length]
        elif command == 1:
            data[offset : offset + length] = channel.receive(length)
        elif command in (4, 6):
            data[offset : offset + length] = bytes(length)
        channel.send(reply)


def test_a_coarse_block_size_is_hidden(tmp_path: Path) -> None:
    data = bytearray(random.Random(4).randbytes(SIZE))
    model = bytearray(data)

    def script(channel: Channel) -> None:
        negotiate(channel, structured=False, min_block=4096, max_block=8192)
        serve_memory(channel, data, align=4096)

    path = str(tmp_path / "s")
    with Liar(path, script), open_nbd({"path": path}) as image:
        assert image.request_alignment == 4096
        image.pwrite(5000, b"hello" * 3000)
        model[5000:20000] = b"hello" * 3000
        image.write_zeroes(30001, 20000)
        model[30001:50001] = bytes(20000)
        image.discard(60000, 10000)
        model[61440:69632] = bytes(8192)
        assert image.pread(4999, 60000) == model[4999:64999]
    assert data == model


def test_a_server_without_fixed_newstyle(tmp_path: Path) -> None:
    data = bytearray(b"q" * SIZE)

    def script(channel: Channel) -> None:
        channel.send(struct.pack(">QQH", NBD_MAGIC, OPTS_MAGIC, 0))
        channel.receive(4)
        _, option, length = OPTION.unpack(channel.receive(OPTION.size))
        assert option == Option.EXPORT_NAME and channel.receive(length) == b"e"
        channel.send(struct.pack(">QH124x", SIZE, 1))
        serve_memory(channel, data)

    path = str(tmp_path / "s")
    with Liar(path, script), open_nbd({"path": path, "export": "e"}) as image:
        image.pwrite(3, b"abc", fua=True)
        image.write_zeroes(100, 100)  # by writing: it has no WRITE_ZEROES
        assert image.pread(0, 8) == b"qqqabcqq"
    assert data[100:200] == bytes(100)


def test_an_oldstyle_server(tmp_path: Path) -> None:
    def script(channel: Channel) -> None:
        channel.send(struct.pack(">QQQI124x", NBD_MAGIC, OLDSTYLE_MAGIC, SIZE, 1))
        serve_memory(channel, bytearray(b"o" * SIZE))

    path = str(tmp_path / "s")
    with Liar(path, script), open_nbd({"path": path}) as image:
        assert isinstance(image, NbdDevice)
        assert image.pread(7, 3) == b"ooo"
        assert image.block_status(0, SIZE)[0].data
