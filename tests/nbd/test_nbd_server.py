"""The server against a client that speaks the protocol byte by byte, rightly and wrongly."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd.channel import ConnectionLost
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import (
    EXPORT_NAME_REPLY,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    MAX_PAYLOAD,
    OPTION,
    OPTS_MAGIC,
    Chunk,
    Command,
    CommandFlag,
    Info,
    Option,
    Reply,
    TransmissionFlag,
    pack_info_request,
    pack_meta_request,
    pack_option,
    pack_string,
)
from pytcg.block.protocols.nbd.server import NbdServer, listen_unix
from pytcg.block.protocols.nbd.transmission import MAX_IN_FLIGHT

from .nbd_support import MemoryDisk, RawClient, serving

SIZE = 1 << 20
DATA = bytes(8192) + random.Random(1).randbytes(8192) + bytes(SIZE - 16384)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk(DATA)


@pytest.fixture
def path(tmp_path: Path, disk: MemoryDisk) -> Iterator[str]:
    first = Export(disk, description="first", allocation_depth=True, bitmaps=("changes",))
    with serving(tmp_path, first, Export(disk, name="ro", read_only=True)) as where:
        yield where


def connected(path: str, *, structured: bool = False, export: str = "") -> RawClient:
    client = RawClient(path)
    client.go(export, structured=structured)
    return client


# ---- negotiation ----


def test_list_names_every_export(path: str) -> None:
    with RawClient(path) as client:
        replies = client.option(Option.LIST)
    assert replies == [(Reply.SERVER, pack_string("") + b"first"),
                       (Reply.SERVER, pack_string("ro")), (Reply.ACK, b"")]


def test_export_name_answers_with_size_and_flags(path: str) -> None:
    with RawClient(path, flags=1) as client:  # without NO_ZEROES
        client.channel.send(pack_option(Option.EXPORT_NAME, b"ro"))
        size, flags = EXPORT_NAME_REPLY.unpack(client.channel.receive(10))
        assert client.channel.receive(124) == bytes(124)
        assert size == SIZE and TransmissionFlag.READ_ONLY in TransmissionFlag(flags)
        client.request(Command.READ, 8192, 512)
        assert client.simple_reply(512)[2] == DATA[8192:8704]


def test_unknown_export_name_ends_the_connection(path: str) -> None:
    with RawClient(path) as client:
        client.channel.send(pack_option(Option.EXPORT_NAME, b"nosuch"))
        with pytest.raises(ConnectionLost):
            client.channel.receive(1)


def test_info_tells_what_was_asked_and_go_enters(path: str) -> None:
    with RawClient(path) as client:
        wanted = [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE]
        replies = client.option(Option.INFO, pack_info_request("", wanted))
        kinds = [struct.unpack(">H", body[:2])[0] for kind, body in replies if kind == Reply.INFO]
        assert kinds == [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE, Info.EXPORT]
        assert replies[1][1][2:] == b"first"
        assert INFO_BLOCK_SIZE.unpack(replies[2][1])[1:] == (1, 4096, MAX_PAYLOAD)
        assert INFO_EXPORT.unpack(replies[3][1])[1] == SIZE
        client.go("")
        client.request(Command.FLUSH)
        assert client.simple_reply()[0] == 0


@pytest.mark.parametrize(
    ("option", "data", "reply"),
    [
        (Option.INFO, pack_info_request("nosuch", []), Reply.ERR_UNKNOWN),
        (Option.INFO, pack_info_request("", []) + b"x", Reply.ERR_INVALID),
        (Option.INFO, b"", Reply.ERR_INVALID),
        (Option.GO, b"\xff\xff\xff\xff", Reply.ERR_INVALID),
        (Option.LIST, b"x", Reply.ERR_INVALID),
        (Option.STARTTLS, b"", Reply.ERR_POLICY),
        (Option.STRUCTURED_REPLY, b"x", Reply.ERR_INVALID),
        (Option.SET_META_CONTEXT, pack_meta_request("", ["base:allocation"]), Reply.ERR_INVALID),
        (Option.PEEK_EXPORT, b"", Reply.ERR_UNSUP),
        (Option.EXTENDED_HEADERS, b"", Reply.ERR_UNSUP),
        (Option.LIST, bytes(1 << 20), Reply.ERR_TOO_BIG),
    ],
)
def test_a_refused_option_leaves_the_negotiation_alive(path: str, option: Option, data: bytes,
                                                       reply: Reply) -> None:
    with RawClient(path) as client:
        assert client.option(option, data)[-1][0] == reply
        assert client.option(Option.LIST)[-1][0] == Reply.ACK


def test_structured_replies_can_be_asked_for_once(path: str) -> None:
    with RawClient(path) as client:
        assert client.option(Option.STRUCTURED_REPLY)[-1][0] == Reply.ACK
        assert client.option(Option.STRUCTURED_REPLY)[-1][0] == Reply.ERR_INVALID


@pytest.mark.parametrize(
    ("queries", "found"),
    [
        ([], {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:changes"}),
        (["base:"], {"base:allocation"}),
        (["qemu:"], {"qemu:allocation-depth", "qemu:dirty-bitmap:changes"}),
        (["qemu:dirty-bitmap:"], {"qemu:dirty-bitmap:changes"}),
        (["base:allocation", "x:y"], {"base:allocation"}),
        (["qemu:dirty-bitmap:other"], set()),
    ],
)
def test_list_meta_context_selects_by_query(path: str, queries: list[str], found: set[str]
                                            ) -> None:
    with RawClient(path) as client:
        client.option(Option.STRUCTURED_REPLY)
        replies = client.option(Option.LIST_META_CONTEXT, pack_meta_request("", queries))
    assert {body[4:].decode() for kind, body in replies if kind == Reply.META_CONTEXT} == found


def test_set_meta_context_takes_whole_names_only(path: str) -> None:
    with RawClient(path) as client:
        client.option(Option.STRUCTURED_REPLY)
        queries = pack_meta_request("", ["base:", "qemu:allocation-depth"])
        replies = client.option(Option.SET_META_CONTEXT, queries)
    assert [body[4:] for kind, body in replies[:-1]] == [b"qemu:allocation-depth"]


def test_contexts_of_another_export_don_t_count(path: str) -> None:
    with RawClient(path) as client:
        client.option(Option.STRUCTURED_REPLY)
        client.option(Option.SET_META_CONTEXT, pack_meta_request("ro", ["base:allocation"]))
        client.go("")
        client.request(Command.BLOCK_STATUS, 0, 4096)
        _, kind, _, body = client.chunk()
    assert kind == Chunk.ERROR and body[:4] == (22).to_bytes(4, "big")


def test_abort_is_acknowledged(path: str) -> None:
    with RawClient(path) as client:
        assert client.option(Option.ABORT) == [(Reply.ACK, b"")]
        with pytest.raises(ConnectionLost):
            client.channel.receive(1)


# ---- transmission ----


@pytest.mark.parametrize("structured", [False, True])
def test_write_then_read_back(path: str, disk: MemoryDisk, structured: bool) -> None:
    with connected(path, structured=structured) as client:
        client.request(Command.WRITE, 100, 300, payload=b"y" * 300, flags=CommandFlag.FUA)
        assert client.simple_reply()[:2] == (0, 1)
        client.request(Command.READ, 0, 4096, flags=CommandFlag.DF if structured else 0)
        got = client.chunk()[3][8:] if structured else client.simple_reply(4096)[2]
    assert got == bytes(100) + b"y" * 300 + bytes(4096 - 400)
    assert disk.fua_writes == 1


def test_structured_read_sends_holes_as_holes(path: str) -> None:
    with connected(path, structured=True) as client:
        client.request(Command.READ, 4096, 16384)
        chunks = [client.chunk()]
        while not chunks[-1][0] & 1:
            chunks.append(client.chunk())
    kinds = [kind for _, kind, _, _ in chunks]
    assert kinds == [Chunk.OFFSET_HOLE, Chunk.OFFSET_DATA, Chunk.OFFSET_DATA, Chunk.OFFSET_HOLE]
    assert chunks[0][3] == struct.pack(">QI", 4096, 4096)
    assert chunks[1][3] == struct.pack(">Q", 8192) + DATA[8192:12288]


def test_block_status_of_all_contexts(path: str) -> None:
    names = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:changes"]
    with RawClient(path) as client:
        client.option(Option.STRUCTURED_REPLY)
        client.option(Option.SET_META_CONTEXT, pack_meta_request("", names))
        client.go()
        client.request(Command.BLOCK_STATUS, 0, 20480)
        replies = [client.chunk() for _ in names]
        client.request(Command.BLOCK_STATUS, 0, 20480, flags=CommandFlag.REQ_ONE)
        single = [client.chunk() for _ in names]
    pairs = [list(struct.iter_unpack(">II", body[4:])) for _, _, _, body in replies]
    assert pairs[0] == [(8192, 3), (8192, 0), (4096, 3)]
    assert pairs[1] == [(20480, 1)]
    assert pairs[2] == [(512, 1 - n % 2) for n in range(40)]
    assert [flags for flags, *_ in replies] == [0, 0, 1]
    assert [len(body) for *_, body in single] == [12, 12, 12]


def test_trim_zero_cache_and_flush(path: str, disk: MemoryDisk) -> None:
    with connected(path) as client:
        for command, offset in ((Command.TRIM, 8192), (Command.WRITE_ZEROES, 12288)):
            client.request(command, offset, 4096, flags=CommandFlag.FUA)
            assert client.simple_reply()[0] == 0
        client.request(Command.CACHE, 0, 4096)
        assert client.simple_reply()[0] == 0
        client.request(Command.WRITE_ZEROES, 0, 512,
                       flags=CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO)
        assert client.simple_reply()[0] == 0
        client.request(Command.FLUSH)
        assert client.simple_reply()[0] == 0
    assert not any(disk.data)
    assert disk.cached == [(0, 4096)] and disk.flushes == 2


@pytest.mark.parametrize(
    ("command", "offset", "length", "flags", "error"),
    [
        (Command.READ, SIZE, 1, 0, 22),
        (Command.READ, 2**64 - 1, 2, 0, 22),
        (Command.WRITE, SIZE - 1, 2, 0, 28),
        (Command.WRITE_ZEROES, SIZE, 1, 0, 28),
        (Command.TRIM, SIZE, 1, 0, 22),
        (Command.CACHE, 0, MAX_PAYLOAD + 1, 0, 22),
        (Command.READ, 0, MAX_PAYLOAD + 1, 0, 22),
        (Command.READ, 0, 512, CommandFlag.REQ_ONE, 22),
        (Command.WRITE, 0, 1, CommandFlag.DF, 22),
        (Command.BLOCK_STATUS, 0, 512, 0, 22),
        (Command.RESIZE, 0, 512, 0, 22),
        (99, 0, 0, 0, 22),
    ],
)
@pytest.mark.parametrize("structured", [False, True])
def test_a_bad_request_fails_alone(path: str, command: int, offset: int, length: int, flags: int,
                                   error: int, structured: bool) -> None:
    payload = bytes(length) if command == Command.WRITE else b""
    with connected(path, structured=structured) as client:
        client.request(command, offset, length, flags=flags, cookie=77, payload=payload)
        if structured:
            _, kind, cookie, body = client.chunk()
            assert kind == Chunk.ERROR and len(body) > 6
            assert (int.from_bytes(body[:4], "big"), cookie) == (error, 77)
        else:
            assert client.simple_reply()[:2] == (error, 77)
        client.request(Command.FLUSH)
        assert client.simple_reply()[0] == 0


def test_a_read_only_export_refuses_writes(path: str, disk: MemoryDisk) -> None:
    with connected(path, export="ro") as client:
        for command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES):
            payload = b"x" * 512 if command == Command.WRITE else b""
            client.request(command, 8192, 512, payload=payload)
            assert client.simple_reply()[0] == 1
    assert disk.data == DATA


def test_a_write_too_long_is_answered_then_the_line_is_cut(path: str) -> None:
    with connected(path) as client:
        client.request(Command.WRITE, 0, 2**32 - 1)
        assert client.simple_reply()[0] == 22
        with pytest.raises(ConnectionLost):
            client.channel.receive(1)


class SlowDisk(MemoryDisk):
    """Reads wait for a gate; remembers how many waited at once."""

    def __init__(self) -> None:
        super().__init__(DATA)
        self.gate = threading.Event()
        self.waiting = 0
        self.most = 0
        self.lock = threading.Lock()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.gate.wait(20)
        with self.lock:
            self.waiting -= 1
        super().read_into(offset, buffer)


def test_requests_run_side_by_side_up_to_the_limit(tmp_path: Path) -> None:
    disk = SlowDisk()
    with serving(tmp_path, Export(disk)) as path, connected(path) as client:
        for cookie in range(3 * MAX_IN_FLIGHT):
            client.request(Command.READ, cookie * 512, 512, cookie=cookie)
        deadline = time.monotonic() + 10
        while disk.most < MAX_IN_FLIGHT and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert disk.most == MAX_IN_FLIGHT
        disk.gate.set()
        replies = [client.simple_reply(512) for _ in range(3 * MAX_IN_FLIGHT)]
        client.request(Command.DISC)
    assert sorted(cookie for _, cookie, _ in replies) == list(range(3 * MAX_IN_FLIGHT))
    for _, cookie, data in replies:
        assert data == DATA[cookie * 512 : cookie * 512 + 512]


def test_replies_under_way_are_sent_before_the_connection_ends(tmp_path: Path) -> None:
    disk = SlowDisk()
    with serving(tmp_path, Export(disk)) as path, connected(path) as client:
        for cookie in range(4):
            client.request(Command.READ, 0, 512, cookie=cookie)
        client.request(Command.DISC)
        threading.Timer(0.1, disk.gate.set).start()
        assert sorted(client.simple_reply(512)[1] for _ in range(4)) == [0, 1, 2, 3]
        with pytest.raises(ConnectionLost):
            client.channel.receive(1)


def test_an_error_of_the_disk_reaches_the_client(tmp_path: Path) -> None:
    class Broken(MemoryDisk):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            raise BlockError("the disk is broken", 5)

        def flush(self) -> None:
            raise OSError(28, "full")

        def discard(self, offset: int, length: int) -> None:
            raise ZeroDivisionError("a bug")

    with serving(tmp_path, Export(Broken(DATA))) as path, connected(path) as client:
        client.request(Command.READ, 0, 512)
        assert client.simple_reply()[0] == 5
        client.request(Command.TRIM, 0, 512)
        assert client.simple_reply()[0] == 5
        client.request(Command.FLUSH)
        assert client.simple_reply()[0] == 28


# ---- limits and hostile clients ----


def test_clients_above_the_limit_wait_their_turn(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk), max_clients=1) as path:
        first = connected(path)
        second = socket.socket(socket.AF_UNIX)
        second.connect(path)
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(1)
        first.close()
        second.settimeout(10)
        assert second.recv(8) == b"NBDMAGIC"
        second.close()


def test_a_client_that_does_not_negotiate_is_dropped(tmp_path: Path, disk: MemoryDisk) -> None:
    with serving(tmp_path, Export(disk), handshake_seconds=0.3) as path:
        with RawClient(path) as silent, pytest.raises(ConnectionLost):
            silent.channel.receive(1)
        with connected(path) as client:  # one that has negotiated may take its time
            time.sleep(0.5)
            client.request(Command.FLUSH)
            assert client.simple_reply()[0] == 0


def test_close_does_not_wait_for_clients_that_hang(tmp_path: Path, disk: MemoryDisk) -> None:
    before = threading.enumerate()
    server = NbdServer([Export(disk)], max_clients=0)
    path = str(tmp_path / "s")
    server.start(listen_unix(path))
    silent = RawClient(path)
    idle = connected(path)
    half = connected(path)
    half.request(Command.WRITE, 0, 65536, payload=b"x" * 100)
    deaf = connected(path)
    for cookie in range(64):  # replies nobody reads
        deaf.request(Command.READ, 0, 512 << 10, cookie=cookie)
    time.sleep(0.1)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 10
    assert not [thread for thread in threading.enumerate()
                if thread.name.startswith("nbd-") and thread not in before]  # fmt: skip
    for client in (silent, idle, half, deaf):
        client.close()


def test_payload_nobody_sends_takes_no_memory(tmp_path: Path) -> None:
    disk = MemoryDisk(bytes(MAX_PAYLOAD))
    with serving(tmp_path, Export(disk)) as path:
        clients = [connected(path) for _ in range(20)]
        before = _resident()
        for client in clients:
            client.request(Command.WRITE, 0, MAX_PAYLOAD)
        time.sleep(0.3)
        assert _resident() - before < 64 << 20  # though 640 MiB were announced
        for client in clients:
            client.close()


def test_replies_nobody_reads_are_bounded(tmp_path: Path) -> None:
    disk = MemoryDisk(b"x" * MAX_PAYLOAD)
    with serving(tmp_path, Export(disk)) as path, connected(path) as client:
        before = _resident()
        for cookie in range(MAX_IN_FLIGHT):
            client.request(Command.READ, 0, MAX_PAYLOAD, cookie=cookie)
        time.sleep(0.5)
        assert _resident() - before < 3 * MAX_PAYLOAD


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _random_option(rng: random.Random) -> bytes:
    data = rng.randbytes(rng.choice((0, 1, 4, 7, 30, 400)))
    length = rng.choice((len(data), len(data), 0, len(data) + 3, rng.getrandbits(32)))
    magic = OPTS_MAGIC if rng.random() < 0.9 else rng.getrandbits(64)
    return OPTION.pack(magic, rng.choice((*range(12), rng.getrandbits(32))), length) + data


def _random_request(rng: random.Random) -> bytes:
    command = rng.choice((*range(9), rng.getrandbits(16)))
    offset = rng.choice((0, 512, SIZE - 1, SIZE, rng.getrandbits(64)))
    length = rng.choice((0, 1, 512, 4096, SIZE, MAX_PAYLOAD, rng.getrandbits(32)))
    magic = 0x25609513 if rng.random() < 0.95 else rng.getrandbits(32)
    header = struct.pack(">IHHQQI", magic, rng.choice((0, 1, 4, rng.getrandbits(16))), command,
                         rng.getrandbits(64), offset, length)
    return header + rng.randbytes(min(length, 5000) if command == Command.WRITE else 0)


@pytest.mark.parametrize("seed", range(60))
def test_fuzz_the_server_lives(path: str, seed: int) -> None:
    rng = random.Random(seed)
    client = RawClient(path, flags=rng.choice((0, 1, 3, 3, 3, rng.getrandbits(32))))
    try:
        if seed % 2:
            client.go("", structured=bool(seed & 2))
        for _ in range(30):
            client.channel.send(_random_request(rng) if seed % 2 else _random_option(rng))
    except ConnectionLost:
        pass  # the server may hang up on nonsense
    finally:
        client.close()
    with connected(path) as honest:
        honest.request(Command.FLUSH)
        assert honest.simple_reply()[0] == 0
