"""The guest builder: archive format, and files that are whole or absent."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytcg.cli import guest, initramfs
from pytcg.machine import roms

BUSYBOX = "#!/bin/sh\nprintf 'ash\\nbusybox\\nls\\npoweroff\\n'\n"


def members(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Name to (mode, data, device) of a newc archive, read as the kernel does."""
    result: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
    position = 0
    while True:
        header = archive[position : position + 110]
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        mode, size, major, minor, name_size = (
            fields[1],
            fields[6],
            fields[9],
            fields[10],
            fields[11],
        )
        name = archive[position + 110 : position + 110 + name_size - 1].decode()
        data = (position + 110 + name_size + 3) & ~3
        if name == initramfs.TRAILER:
            return result
        result[name] = (mode, archive[data : data + size], (major, minor))
        position = (data + size + 3) & ~3


def fake_fetch(cache: Path) -> None:
    """What a download leaves."""
    (cache / guest.KERNEL).write_bytes(b"kernel")
    guest.publish(cache / guest.BUSYBOX, BUSYBOX.encode(), 0o755)


def test_archive_holds_what_the_kernel_needs_to_start() -> None:
    found = members(initramfs.build(b"\x7fELF busybox", ["busybox", "ls", "sh"]))
    mode, data, _ = found["init"]
    assert stat.S_ISREG(mode) and mode & 0o111
    assert data.startswith(b"#!/bin/sh\n")
    assert found["bin/busybox"][1] == b"\x7fELF busybox"
    assert found["bin/ls"][:2] == (stat.S_IFLNK | 0o777, b"busybox")
    console, _, device = found["dev/console"]
    assert stat.S_ISCHR(console) and device == (5, 1)
    assert all(stat.S_ISDIR(found[name][0]) for name in initramfs.DIRECTORIES)
    assert list(found).index("bin") < list(found).index("bin/busybox")


def test_archive_is_the_same_each_time() -> None:
    assert initramfs.build(b"x", ["ls"]) == initramfs.build(b"x", ["ls"])


def test_ensure_fetches_once_and_keeps_what_is_current(tmp_path: Path) -> None:
    fetches: list[Path] = []

    def fetcher(cache: Path) -> None:
        fetches.append(cache)
        fake_fetch(cache)

    cache = tmp_path / "cache" / "guest"
    guest.ensure(cache, fetcher=fetcher)
    before = (cache / guest.INITRAMFS).stat()
    guest.ensure(cache, fetcher=fetcher)
    assert len(fetches) == 1
    assert (cache / guest.INITRAMFS).stat().st_ino == before.st_ino
    assert cache.stat().st_mode & 0o077 == 0
    guest.ensure(cache, fetcher=fetcher, refresh=True)
    assert len(fetches) == 2


def test_a_stale_initramfs_is_rebuilt(tmp_path: Path) -> None:
    guest.ensure(tmp_path, fetcher=fake_fetch)
    good = (tmp_path / guest.INITRAMFS).read_bytes()
    (tmp_path / guest.INITRAMFS).write_bytes(good[:100])
    guest.ensure(tmp_path, fetcher=fake_fetch)
    assert (tmp_path / guest.INITRAMFS).read_bytes() == good
    assert "bin/poweroff" in members(good)


def test_publish_leaves_no_half_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: str, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        guest.publish(tmp_path / "vmlinuz", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert guest.main(["--cache", str(tmp_path / "cache")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("guest: apt-")
    assert captured.err.count("\n") == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_firmware_is_fetched_where_no_package_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roms, "PACKAGED", ())
    fetched: list[Path] = []

    def fetch(cache: Path) -> None:
        fetched.append(cache)
        for name in guest.FIRMWARE:
            (cache / name).write_bytes(b"rom")

    for _ in range(2):
        guest.ensure_firmware(tmp_path, fetcher=fetch)
    assert fetched == [tmp_path]
    assert roms.RomFinder(cache=tmp_path).find("bios-256k.bin") == str(tmp_path / "bios-256k.bin")
