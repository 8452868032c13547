"""Drives and devices of a board: where they go, and what is refused."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.block.device import BlockError
from pytcg.chardev.base import Context
from pytcg.chardev.registry import Chardevs
from pytcg.cli.system.drives import Drives
from pytcg.cli.system.options import parse
from pytcg.hw.clock import FakeClock
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.atapi_drive import AtapiDrive
from pytcg.hw.storage.nvme.controller import Nvme
from pytcg.machine.devices.rack import Rack
from pytcg.machine.disk_io import DiskIo
from pytcg.machine.drives import DeviceError
from pytcg.machine.io_errors import Failure
from pytcg.machine.pc import Pc, PcConfig


class Shop:
    """Builds boards from command lines."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.stack = stack
        self.lock = threading.RLock()
        self.failures: list[BaseException] = []
        self.disk = folder / "disk"
        self.disk.write_bytes(bytes(range(256)) * 4096)

    def build(self, line: str) -> Pc:
        options = parse(line.format(disk=self.disk).split())
        memory = board_memory(16 << 20)
        board = Pc(PcConfig(16 << 20), FakeClock(), self.lock, memory,
                   lambda bus: FakeVcpu(bus, FakeVcpu.wait))  # fmt: skip
        self.drives = Drives(options, self.lock, self.failures.append, self.stack)
        loop = asyncio.new_event_loop()
        self.stack.callback(loop.close)
        chardevs = Chardevs(Context(loop, self.lock, loop.stop))
        self.rack = Rack(board, self.drives.by_id, chardevs)
        self.drives.add_devices(self.rack)
        return board


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        yield shop
    assert not shop.failures


def kinds(board: Pc) -> list[type | None]:
    return [drive and type(drive) for channel in board.ide.channels for drive in channel.drives]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [None, None, AtapiDrive, None]),
        ("-nodefaults", [None] * 4),
        ("{disk}", [AtaDrive, None, AtapiDrive, None]),
        ("-hdc {disk}", [None, None, AtaDrive, None]),
        ("-drive file={disk},media=cdrom", [AtapiDrive, None, None, None]),
        ("-drive file={disk},if=none,id=x -device ide-hd,drive=x,bus=ide.1,unit=1",
         [None, None, AtapiDrive, AtaDrive]),
        ("-blockdev file,node-name=x,filename={disk} -device ide-hd,drive=x,bootindex=1",
         [AtaDrive, None, AtapiDrive, None]),
    ],
)
def test_where_drives_go(shop: Shop, line: str, expected: list[type | None]) -> None:
    assert kinds(shop.build(line)) == expected


def test_bootindex_is_told_to_firmware(shop: Shop) -> None:
    line = "-drive file={disk},if=none,id=x -device ide-hd,drive=x,unit=1,bootindex=3"
    board = shop.build(line)
    assert board.boot_order.devices == {3: "/pci@i0cf8/ide@1,1/drive@0/disk@1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-hda {disk} -drive file={disk},index=0,readonly=on", "bus=0, unit=0 (if=ide) exists"),
        ("-drive file={disk},index=4", "machine type does not support if=ide,bus=2,unit=0"),
        ("-drive file={disk},if=scsi", "machine type does not support if=scsi,bus=0,unit=0"),
        ("-drive if=ide", "Device needs media, but drive is empty"),
        ("-drive file={disk},if=none,id=x -device ide-hd,drive=x -device ide-hd,drive=x",
         "Drive 'x' is already in use"),
        ("-device ide-hd,drive=y", "can't find value 'y' of property 'drive'"),
        ("-device ide-hd", "drive property not set"),
        ("-drive file={disk},if=none,id=x -device ide-hd,drive=x,unit=2", "unit 2"),
        ("-drive file={disk},if=none,id=x -device ide-hd,drive=x,bus=ide.7", "Bus 'ide.7' not"),
        ("-drive file={disk},readonly=on", "read-only"),
        ("-hda /nowhere", "Could not open '/nowhere': No such file or directory"),
        ("-drive file={disk},format=qcow2", "not in qcow2 format"),
        ("-drive file={disk},colour=red", "does not support the option 'colour'"),
        ("-device isa-debug-exit,iosize=5", "no such ports"),
        ("-drive file={disk},if=none,id=x -device virtio-blk-pci,drive=x,werror=red",
         "Property 'virtio-blk-pci.werror' doesn't take value 'red'"),
        ("-drive file={disk},if=none,id=x -device nvme,drive=x", "serial property not set"),
        ("-drive file={disk},if=none,id=x -device nvme-ns,drive=x", "No 'nvme-bus' bus found"),
        ("-drive file={disk},if=none,id=x -device nvme,serial=1 -device nvme-ns,drive=x,nsid=300",
         "invalid namespace id"),
    ],
)
def test_what_is_refused(shop: Shop, line: str, message: str) -> None:
    with pytest.raises((DeviceError, BlockError)) as caught:
        shop.build(line)
    assert message in str(caught.value)


def test_namespaces_take_the_numbers_that_are_free(shop: Shop) -> None:
    line = ("-drive file={disk},if=none,id=x,readonly=on -device nvme,id=n,serial=1"
            " -device nvme-ns,drive=x,bus=n,nsid=2,bootindex=1"
            " -drive file={disk},if=none,id=y,readonly=on -device nvme-ns,drive=y")  # fmt: skip
    board = shop.build(line)
    card = next(card for card in board.pci.devices.values() if isinstance(card, Nvme))
    assert sorted(card.engine.namespaces) == [1, 2]
    assert list(board.boot_order.devices.values()) == ["/pci@i0cf8/pci1b36,10@2/namespace@2,0"]


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("line", "error", "action"),
    [
        ("", errno.ENOSPC, "stop"),
        ("", errno.EIO, "report"),
        (",werror=report", errno.ENOSPC, "report"),
        (",werror=stop", errno.EIO, "stop"),
        (",werror=ignore", errno.EIO, "ignore"),
    ],
)
def test_what_becomes_of_writes_that_fail(shop: Shop, monkeypatch: pytest.MonkeyPatch, line: str,
                                          error: int, action: str) -> None:  # fmt: skip
    shop.build("-drive file={disk},id=x,format=raw" + line)
    io = shop.drives.by_id["x"].io
    assert io is not None
    heard: list[Failure] = []
    shop.drives.by_id.on_failure = lambda drive, failure: heard.append(failure)
    ended: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        raise BlockError("full", error)

    with monkeypatch.context() as patch:
        patch.setattr(io.device, "pwrite", refuse)
        patch.setattr(io.device, "write_now", lambda *_: False)
        io.write(512, b"x" * 512, lambda _, errno: ended.append(errno))
        wait_until(lambda: heard)
        io.drain()
    assert heard == [Failure("write", action, error)] and io.stopped == (action == "stop")
    assert ended == {"stop": [], "report": [error], "ignore": [0]}[action]
    if action == "stop":
        assert io.status == ("nospace" if error == errno.ENOSPC else "failed")
        shop.drives.by_id.retry()
        wait_until(lambda: ended)
        assert ended == [0] and io.status == "ok"
        assert io.device.pread(512, 512) == b"x" * 512


def test_what_the_host_has_at_hand_needs_no_thread(shop: Shop) -> None:
    shop.build("{disk}")
    io = shop.drives.by_id["ide0-hd0"].io
    assert isinstance(io, DiskIo)
    found: list[tuple[bytes, int]] = []
    io.write(512, b"new" * 512, lambda data, errno: found.append((data, errno)))
    io.read(511, 4, lambda data, errno: found.append((data, errno)))
    assert found == [(b"", 0), (b"\xffnew", 0)] and not io.busy
    assert shop.disk.read_bytes()[512:2048] == b"new" * 512
    assert io.accounts.highest == 2048
    counted = [(io.accounts.kinds[kind].operations, io.accounts.kinds[kind].bytes)
               for kind in ("rd", "wr")]  # fmt: skip
    assert counted == [(1, 4), (1, 1536)]
    io.hold()  # what it stands on is changed
    io.read(512, 4, lambda data, errno: found.append((data, errno)))
    assert len(found) == 2 and io.busy
    io.let_go()
    wait_until(lambda: len(found) == 3)
    assert found[2] == (b"newn", 0)


def test_a_host_that_lets_the_processor_wait_gets_threads(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.build("{disk}")
    io = shop.drives.by_id["ide0-hd0"].io
    assert isinstance(io, DiskIo)
    buffer = memoryview(bytearray(512))
    with monkeypatch.context() as patch:
        patch.setattr(io.device, "write_now", lambda *_: time.sleep(0.05) or True)
        assert io.write_now(0, [buffer])
    assert not io.write_now(0, [buffer]) and not io.read_now(0, [buffer])


@pytest.mark.parametrize("line", ["cache=none", "detect-zeroes=on",
                                  "detect-zeroes=unmap,discard=on"])
def test_what_must_not_be_done_at_once(shop: Shop, line: str) -> None:
    shop.build("-drive file={disk},id=x," + line)
    io = shop.drives.by_id["x"].io
    assert isinstance(io, DiskIo)
    assert io.read_now(4096, [memoryview(bytearray(4096))]) == (line != "cache=none")
    assert not io.write_now(4096, [memoryview(bytearray(4096))])


def test_a_guest_cannot_make_a_guessed_raw_disk_another_format(shop: Shop) -> None:
    shop.build("{disk}")
    io = shop.drives.by_id["ide0-hd0"].io
    assert isinstance(io, DiskIo) and not io.write_now(0, [memoryview(bytearray(512))])
    found: list[int] = []
    io.write(0, b"QFI\xfb\0\0\0\3".ljust(512, b"\0"), lambda _, errno: found.append(errno))
    wait_until(lambda: found)
    assert found == [errno.EPERM]


def test_requests_run_beside_the_lock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    board = shop.build("{disk}")
    io = shop.drives.by_id["ide0-hd0"].io
    assert isinstance(io, DiskIo)
    monkeypatch.setattr(io.device, "read_now", lambda *_: False)
    ended = threading.Event()
    found: list[tuple[bytes, int]] = []

    def done(data: bytes, errno: int) -> None:
        found.append((data, errno))
        ended.set()

    with shop.lock:  # the request is done, its completion waits for the lock
        io.read(256, 4, done)
        assert not ended.wait(0.05)
    assert ended.wait(5)
    assert found == [(b"\0\1\2\3", 0)]
    ended.clear()
    io.read(io.size, 512, done)
    assert ended.wait(5)
    assert found[1][1] != 0
    assert board.ide.channels[0].drives[0] is not None
