"""Hostile surroundings: closed files, a cache that is not to be trusted, compilers that die."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytcg_llvm.cache import ObjectCache
from pytcg_threaded.worker import WorkerError, run_jobs

REPOSITORY = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(REPOSITORY / root) for root in ("src", "frontends", "backends"))
PROGRAM = f"{shlex.quote(sys.executable)} -m pytcg.cli.system"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of /bin/sh; PROGRAM is not found otherwise than by its path."""
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env={**os.environ, "PYTHONPATH": SOURCES, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("-version >&-", 0, ""),
        ("-version </dev/null >/dev/full", 1, "could not write to standard output: No space left"),
        ("-kernel /none <&-", 1, "could not open kernel file"),
        ("-kernel /none <&- >&-", 1, "could not open kernel file"),
    ],
)
def test_closed_and_full_standard_files(redirection: str, status: int, message: str) -> None:
    result = shell(f"{PROGRAM} {redirection}")
    assert result.returncode == status
    assert result.stdout == ""
    assert result.stderr.count("\n") == (1 if message else 0)
    assert message in result.stderr


def test_a_message_never_goes_to_standard_output() -> None:
    result = shell(f"{PROGRAM} -foo 2>&-")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_ctrl_c_during_the_start_is_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "kernel"
    os.mkfifo(fifo)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "pytcg.cli.system", "-kernel", str(fifo)],
            env={**os.environ, "PYTHONPATH": SOURCES},
            stderr=subprocess.PIPE,
        ) as process,
        fifo.open("wb"),
    ):  # waits for the reader
        call = Path(f"/proc/{process.pid}/syscall")
        while process.poll() is None and not call.read_text().startswith("0 "):  # read(2)
            time.sleep(0.01)  # not between its open and its read: Python would read on
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, b"pytcg-system-x86_64: terminating on signal 2\n")


def kernel(path: Path) -> str:
    """The smallest bzImage: enough to get as far as the engine."""
    image = bytearray(2048)
    image[0x1F1] = 1
    image[0x1FE:0x208] = b"\x55\xaa\xeb\x66HdrS\x0a\x02"
    image[0x211] = 1
    image[0x216] = 0x10  # code32_start
    image[0x22C:0x230] = b"\xff\xff\xff\x7f"
    path.write_bytes(image)
    return str(path)


def spoil_symlink(objects: Path) -> str:
    real = objects.with_name("real")
    real.mkdir(mode=0o700)
    objects.symlink_to(real)
    return f"cache folder '{objects}' is a symbolic link"


def spoil_writable(objects: Path) -> str:
    objects.mkdir()
    objects.chmod(0o777)
    return f"cache folder '{objects}' can be written by others"


def spoil_writable_parent(objects: Path) -> str:
    objects.mkdir(mode=0o700)
    objects.parent.chmod(0o770)
    return f"cache folder '{objects.parent}' can be written by others"


@pytest.mark.parametrize("spoil", [spoil_symlink, spoil_writable, spoil_writable_parent])
def test_an_untrustworthy_cache_is_one_line(tmp_path: Path, spoil: object) -> None:
    objects = tmp_path / "cache" / "pytcg" / "objects"
    objects.parent.mkdir(parents=True, mode=0o700)
    assert callable(spoil)
    message = spoil(objects)
    line = f"{PROGRAM} -kernel {kernel(tmp_path / 'kernel')}"
    result = shell(line, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"pytcg-system-x86_64: {message}\n"


def test_a_cache_without_a_place_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = ObjectCache("area", tmp_path / "file" / "objects")
    cache.store("kind/name", b"object")
    assert cache.load("kind/name") is None
    assert cache.names("kind") == []


def test_damaged_objects_are_missing_objects(tmp_path: Path) -> None:
    cache = ObjectCache("area", tmp_path / "pytcg" / "objects")
    cache.store("kind/name", b"object" * 100)
    path = Path(cache.folder, "kind", "name.o")
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[:-1], bytes(len(whole)), whole[:-1] + b"?"):
        path.write_bytes(damaged)
        assert cache.load("kind/name") is None
    path.write_bytes(whole)
    assert cache.load("kind/name") == b"object" * 100
    path.rename(path.with_name("other.o"))  # whole, but not what its name says
    assert cache.load("kind/other") is None


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("/bin/true", "a compiler process"), ("/none", "a compiler process failed: No such file")],
)
def test_a_compiler_that_dies_is_named(
    monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    monkeypatch.setattr(sys, "executable", compiler)
    with pytest.raises(WorkerError, match=message):
        run_jobs([["core", "0", "6"]], lambda done, total: None)
