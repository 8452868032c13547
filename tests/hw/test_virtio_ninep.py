"""virtio-9p driven over PCI: messages in rings, by drivers that mean well and ill."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hw.virtio_driver import DATA, MEMORY, Driver
from pytcg.hw.state import StateError
from pytcg.hw.virtio.modern import Reg
from pytcg.hw.virtio.ninep import VirtioNinep
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.ninep.dotl import DOTL
from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.model import Passthrough
from pytcg.ninep.qids import Qids
from pytcg.ninep.service import Service
from pytcg.ninep.session import Session
from pytcg.ninep.wire import Kind, message, pack, unpack

REPLY = DATA + 0x8000
VERSION = message(Kind.VERSION, 0xFFFF, pack("ds", (8192, b"9P2000.L")))
ATTACH = message(Kind.ATTACH, 1, pack("ddssd", (0, 0xFFFFFFFF, b"", b"", 0)))


class Share:
    """A card with a folder behind it."""

    def __init__(self, path: Path, packed: int = 0) -> None:
        self.lock = threading.RLock()
        self.failures: list[BaseException] = []
        self.slow = threading.Event()
        self.slow.set()

        def admit(way: str, length: int) -> None:
            self.slow.wait(10)

        session = Session(LocalFolder(Root(str(path)), Passthrough(strict=False)), Qids(), (DOTL,),
                          admit)  # fmt: skip
        self.service = Service(session, self.lock, self.failures.append)
        self.card = VirtioPci(VirtioNinep(self.service, b"tag"), 0x000200)
        self.card.device.options |= 1 << 34
        self.driver = Driver(self.card, 1 << 32 | packed << 34)

    def offer(self, request: bytes, room: int = 8192, at: int = DATA) -> None:
        self.driver.slot.memory[at : at + len(request)] = request
        with self.lock:
            self.driver.offer([(at, len(request), False), (REPLY, room, True)])

    def finished(self) -> int:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with self.lock:
                length = self.driver.finished()
            if length is not None:
                return length
            time.sleep(0.001)
        raise AssertionError("no reply")

    def ask(self, request: bytes) -> bytes:
        self.offer(request)
        return bytes(self.driver.slot.memory[REPLY : REPLY + self.finished()])


@pytest.fixture(params=[0, 1], ids=["split", "packed"])
def share(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Share]:
    (tmp_path / "f").write_text("text")
    made = Share(tmp_path, request.param)
    yield made
    made.slow.set()
    made.service.close()
    assert not made.failures


def test_messages_go_both_ways(share: Share) -> None:
    assert (share.driver.config(0, 2), share.driver.config(2, 4)) == (3, 0x676174)
    assert share.ask(VERSION)[4:] == VERSION[4:5].replace(b"d", b"e") + VERSION[5:]
    assert share.ask(ATTACH)[4] == Kind.ATTACH + 1
    share.ask(message(Kind.WALK, 2, pack("ddS", (0, 1, [b"f"]))))
    share.ask(message(Kind.LOPEN, 2, pack("dd", (1, 0))))
    reply = share.ask(message(Kind.READ, 2, pack("dqd", (1, 0, 100))))
    assert unpack("D", reply, 7) == [b"text"]
    with pytest.raises(StateError, match="mount_tag 'tag'"):
        share.card.device.state()


def test_flush_is_answered_behind_what_it_names(share: Share) -> None:
    share.driver.size = 8
    for request in (VERSION, ATTACH, message(Kind.WALK, 2, pack("ddS", (0, 1, [b"f"]))),
                    message(Kind.LOPEN, 2, pack("dd", (1, 0)))):  # fmt: skip
        share.ask(request)
    replies: list[int] = []
    submit = share.service.submit
    share.slow.clear()
    submit(message(Kind.READ, 7, pack("dqd", (1, 0, 100))), lambda reply: replies.append(reply[4]))
    submit(message(Kind.FLUSH, 8, pack("h", (7,))), lambda reply: replies.append(reply[4]))
    time.sleep(0.05)
    assert not replies
    share.slow.set()
    submit(message(Kind.FLUSH, 9, pack("h", (77,))), lambda reply: None)
    share.service.close()
    assert replies == [Kind.READ + 1, Kind.FLUSH + 1]


def test_reset_forgets_the_client_and_its_requests(share: Share) -> None:
    for request in (VERSION, ATTACH, message(Kind.WALK, 2, pack("ddS", (0, 1, [b"f"]))),
                    message(Kind.LOPEN, 2, pack("dd", (1, 0)))):  # fmt: skip
        share.ask(request)
    share.slow.clear()
    share.offer(message(Kind.READ, 7, pack("dqd", (1, 0, 100))))
    with share.lock:
        share.driver.put(Reg.DEVICE_STATUS, 1, 0)
        before = bytes(share.driver.slot.memory)
    share.slow.set()
    share.service.close()
    assert bytes(share.driver.slot.memory) == before
    assert not share.service.in_use


@pytest.mark.parametrize(
    "buffers",
    [
        [(DATA, 6, False), (REPLY, 100, True)],
        [(DATA, 100, False), (REPLY, 6, True)],
        [(DATA, 100, False)],
        [(REPLY, 100, True)],
        [(DATA, 0xFFFFFFFF, False), (REPLY, 100, True)],
        [(MEMORY - 4, 100, False), (REPLY, 100, True)],
        [(DATA, 21, False), (REPLY, 12, True)],
        [(DATA, 23, False), (MEMORY - 4, 100, True)],
    ],
    ids=["header", "reply", "nothing-to-write", "nothing-to-read", "huge", "no-memory",
         "short-reply", "no-memory-for-reply"],
)  # fmt: skip
def test_impossible_buffers_break_the_device(share: Share, buffers: list[tuple[int, int, bool]]
                                             ) -> None:  # fmt: skip
    share.driver.slot.memory[DATA : DATA + len(VERSION)] = VERSION
    with share.lock:
        share.driver.offer(buffers)
    share.service.close()
    assert share.driver.broken


def test_random_rings(tmp_path: Path) -> None:
    rng = random.Random(2)
    (tmp_path / "shared").mkdir()
    for _ in range(60):
        share = Share(tmp_path / "shared", rng.randrange(2))
        share.ask(VERSION)
        share.ask(ATTACH)
        for _ in range(10):
            kind = rng.choice(list(DOTL.handlers))
            request = message(kind, 1, rng.randbytes(rng.randrange(50)))
            share.driver.slot.memory[DATA : DATA + len(request)] = request
            with share.lock:
                share.driver.offer([
                    (rng.choice((DATA, REPLY, MEMORY - 9)), rng.choice((len(request), 7, 5000)),
                     rng.random() < 0.1),
                    (REPLY, rng.choice((8192, 7, 100)), rng.random() < 0.9),
                ])  # fmt: skip
        share.service.close()
        assert not share.failures
    assert list(tmp_path.iterdir()) == [tmp_path / "shared"]


def test_the_driver_s_own_thread_serves_what_is_quick(share: Share) -> None:
    share.ask(VERSION)
    threads: list[str] = []
    later: list[Callable[[], None]] = []
    handle = share.service.session.handle

    def watched(request: bytes) -> bytes:
        threads.append(threading.current_thread().name)
        return handle(request)

    def keep(work: Callable[[], None]) -> bool:
        later.append(work)
        return True

    def slow(request: bytes) -> bytes:
        time.sleep(0.02)
        return watched(request)

    share.service.session.handle = watched  # type: ignore[method-assign]
    share.service.after_store = keep
    share.offer(ATTACH)
    assert not threads and len(later) == 1  # not while the lock is held
    later.pop()()
    assert threads == [threading.current_thread().name] and share.finished() == 20
    walk = message(Kind.WALK, 1, pack("ddS", (0, 1, [b"f"])))
    share.service.session.handle = slow  # type: ignore[method-assign]
    share.offer(walk)
    later.pop()()
    assert share.finished() and not share.failures
    share.service._patience._until += 1 << 40  # the host was slow: the next is a worker's again
    share.offer(message(Kind.CLUNK, 1, pack("d", (1,))))
    assert share.finished() == 7 and not later and threads[-1].startswith("9p-")


@pytest.mark.parametrize("waits", [False, True])
def test_what_waits_is_never_the_driver_s(share: Share, waits: bool) -> None:
    share.service.waits = waits
    share.service.after_store = lambda work: pytest.fail("it would wait")
    answer = lambda request: message(request[4] + 1, 1)  # noqa: E731
    share.service.session.handle = answer  # type: ignore[method-assign]
    kind = Kind.ATTACH if waits else Kind.FSYNC
    assert share.ask(message(kind, 1, bytes(8))) == message(kind + 1, 1)
