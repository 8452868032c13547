"""The client while its server is away: open-timeout, reconnect-delay, and the default."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd import redial as nbd_redial
from pytcg.block.protocols.nbd.client import NbdDevice, open_nbd
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.server import NbdServer, listen_unix

from .nbd_support import TIMEOUT, MemoryDisk, need, run, running, serving, tool, uri

SIZE = 64 << 10


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd_redial, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(nbd_redial, "_LONGEST_PAUSE", 0.02)


def _open(path: str, **options: str) -> NbdDevice:
    return open_nbd({"filename": uri(path), **options})


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def _redials() -> int:
    return sum(thread.name == "nbd-redial" for thread in threading.enumerate())


def _start_later(path: Path, export: Export) -> tuple[threading.Timer, list[NbdServer]]:
    servers: list[NbdServer] = []

    def start() -> None:
        servers.append(NbdServer([export], max_clients=0))
        servers[0].start(listen_unix(str(path / "nbd.sock")))

    timer = threading.Timer(0.3, start)
    timer.start()
    return timer, servers


def test_open_waits_for_the_server(tmp_path: Path) -> None:
    timer, servers = _start_later(tmp_path, Export(MemoryDisk(bytes(SIZE))))
    device = _open(str(tmp_path / "nbd.sock"), **{"open-timeout": "20"})
    assert device.size == SIZE
    device.close()
    timer.join()
    servers[0].close()


def test_open_gives_up_in_time_and_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"Failed to connect to .*: No such file"):
        _open(str(tmp_path / "none"), **{"open-timeout": "1"})
    _until(lambda: not _redials())


def test_requests_wait_for_the_server_and_are_done_once(tmp_path: Path) -> None:
    disk = MemoryDisk(bytes(SIZE))
    with serving(tmp_path, Export(disk)) as path:
        device = _open(path, **{"reconnect-delay": "20"})
        device.pwrite(0, b"before")
    timer, servers = _start_later(tmp_path, Export(disk, shared=True))
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(device.pwrite, 4096 * n, bytes([n]) * 512) for n in range(1, 9)]
        for write in writes:
            write.result(TIMEOUT)
    assert device.pread(0, 6) == b"before"
    assert all(disk.data[4096 * n :][:512] == bytes([n]) * 512 for n in range(1, 9))
    device.close()
    timer.join()
    servers[0].close()
    _until(lambda: not _redials())


def test_after_the_delay_requests_fail_until_the_server_is_back(tmp_path: Path) -> None:
    disk = MemoryDisk(bytes(SIZE))
    with serving(tmp_path, Export(disk)) as path:
        device = _open(path, **{"reconnect-delay": "1"})
    with pytest.raises(BlockError, match="disconnected"):
        device.pread(0, 512)
    with serving(tmp_path, Export(disk)):
        _until(lambda: _reads(device))
        device.close()


def _reads(device: NbdDevice) -> bool:
    try:
        return device.pread(0, 512) == bytes(512)
    except BlockError:
        return False


def test_without_a_delay_the_first_request_fails_and_later_ones_find_the_server(
        tmp_path: Path) -> None:
    disk = MemoryDisk(bytes(SIZE))
    with serving(tmp_path, Export(disk)) as path:
        device = _open(path)
    with serving(tmp_path, Export(disk)):
        with pytest.raises(BlockError, match="disconnected"):
            device.pread(0, 512)
        _until(lambda: _reads(device))
        device.close()


def test_closing_ends_the_attempts(tmp_path: Path) -> None:
    with serving(tmp_path, Export(MemoryDisk(bytes(SIZE)))) as path:
        device = _open(path)
    assert not _reads(device)
    assert _redials()
    device.close()
    _until(lambda: not _redials())


def test_an_export_that_comes_back_read_only_is_refused(tmp_path: Path) -> None:
    disk = MemoryDisk(bytes(SIZE))
    with serving(tmp_path, Export(disk)) as path:
        device = _open(path, **{"reconnect-delay": "20"})
    with serving(tmp_path, Export(disk, read_only=True)):
        with pytest.raises(BlockError, match="denied"):
            device.pread(0, 512)
        device.close()


@pytest.mark.parametrize("name", ["open-timeout", "reconnect-delay"])
def test_times_are_numbers(name: str) -> None:
    with pytest.raises(BlockError, match=f"Parameter '{name}' expects a number"):
        open_nbd({"path": "/none", name: "soon"})


def test_our_io_outlives_a_restart_of_qemu_nbd(tmp_path: Path) -> None:
    image, path = tmp_path / "disk", str(tmp_path / "sock")
    image.write_bytes(bytes(1 << 20))
    server = [need("qemu-nbd"), "-t", "-f", "raw", "-k", path, str(image)]
    options = f"driver=nbd,server.type=unix,server.path={path},reconnect-delay=10"
    with running(server, path):
        device = open_nbd({"path": path, "reconnect-delay": "10"})
        device.pwrite(0, b"1" * 512)
    with running(server, path):
        device.pwrite(512, b"2" * 512)
        device.close()
        run(*tool("io", "-c", "read -P 0x31 0 512", "-c", "read -P 0x32 512 512",
                  "--image-opts", options))
