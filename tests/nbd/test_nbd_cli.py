"""pytcg-nbd as a program: its options, its messages beside qemu-nbd's, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .nbd_support import TIMEOUT, environment, free_port, need, run, running, tool, uri

SIZE = 1 << 20
PLAIN = ("-f", "raw")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"d" * (SIZE // 2) + bytes(SIZE // 2))
    return path


def wait_for_end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit status, stderr) of a program that should end by itself."""
    _, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, err


def gone(pid: int) -> bool:
    """Whether a process has ended within a while."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


# ---- life and end ----


def test_it_ends_with_the_last_client_and_cleans_up(tmp_path: Path, raw: Path) -> None:
    path, pid_file = str(tmp_path / "s"), tmp_path / "pid"
    with running(tool("nbd", *PLAIN, "-k", path, "--pid-file", str(pid_file), str(raw)), path
                 ) as server:
        assert int(pid_file.read_text()) == server.pid
        assert run(need("nbdinfo"), "--size", uri(path)).strip() == str(SIZE)
        assert wait_for_end(server) == (0, "")
    assert not os.path.exists(path) and not pid_file.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(tmp_path: Path, raw: Path, number: signal.Signals) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, "-t", "-k", path, str(raw)), path) as server:
        run(need("nbdinfo"), uri(path))
        run(need("nbdinfo"), uri(path))
        server.send_signal(number)
        assert wait_for_end(server) == (0, "")
    assert not os.path.exists(path)


def test_fork_returns_when_clients_can_connect(tmp_path: Path, raw: Path) -> None:
    path, pid_file = str(tmp_path / "s"), tmp_path / "pid"
    assert run(*tool("nbd", *PLAIN, "--fork", "-k", path, "--pid-file", str(pid_file), str(raw))
               ) == ""
    pid = int(pid_file.read_text())
    run(need("nbdinfo"), uri(path))
    assert gone(pid)


def test_fork_reports_what_goes_wrong(tmp_path: Path, raw: Path) -> None:
    err = run(*tool("nbd", *PLAIN, "--fork", "-k", str(tmp_path / "no" / "s"), str(raw)), status=1)
    assert err.startswith("pytcg-nbd: Failed to bind socket to ")


def test_socket_activation(raw: Path) -> None:
    command = tool("nbd", *PLAIN, str(raw))
    info = run(need("nbdinfo"), "--size", "--", "[", *command, "]")
    assert info.strip() == str(SIZE)


def test_tcp_with_a_name_and_a_description(tmp_path: Path, raw: Path) -> None:
    pid_file = tmp_path / "pid"
    port = "10877"
    run(*tool("nbd", *PLAIN, "--fork", "-t", "-p", port, "-b", "localhost", "-x", "disk", "-D",
              "my disk", "--pid-file", str(pid_file), str(raw)))
    try:
        where = f"nbd://localhost:{port}/disk"
        export = json.loads(run(need("nbdinfo"), "--json", where))["exports"][0]
        assert export["description"] == "my disk" and export["export-size"] == SIZE
        run(need("nbdinfo"), f"nbd://localhost:{port}/", status=1)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


# ---- what is exported ----


def test_offset_exports_the_rest(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, "-t", "-o", str(SIZE // 2 - 512), "-k", path, str(raw)),
                 path):
        out = run(need("qemu-io"), "-f", "raw", "-c", "read -P 0x64 0 512", "-c",
                  "read -P 0 512 512k", "-c", "write -P 1 0 1k", uri(path))
        assert "failed" not in out
    assert raw.read_bytes()[SIZE // 2 - 512 : SIZE // 2 + 512] == b"\1" * 1024


def test_read_only(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", "-f", "raw", "-r", "-t", "-k", path, str(raw)), path):
        run(need("nbdinfo"), "--is", "read-only", uri(path))
        run(need("qemu-io"), "-f", "raw", "-c", "write 0 512", uri(path), status=1)


@pytest.mark.parametrize(("discard", "kept"), [("ignore", True), ("unmap", False)])
def test_discard_modes(tmp_path: Path, raw: Path, discard: str, kept: bool) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, f"--discard={discard}", "-k", path, str(raw)), path):
        run(need("qemu-io"), "-f", "raw", "-d", "unmap", "-c", "discard 0 64k", uri(path))
    assert any(raw.read_bytes()[: 64 << 10]) == kept


def test_detect_zeroes_leaves_holes(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, "--discard=unmap", "--detect-zeroes=unmap", "-k", path,
                      str(raw)), path):
        run(need("qemu-io"), "-f", "raw", "-c", "write -P 0 0 256k", uri(path))
    assert raw.read_bytes()[: 256 << 10] == bytes(256 << 10)
    assert raw.stat().st_blocks * 512 < SIZE


def test_snapshot_drops_what_was_written(tmp_path: Path, raw: Path) -> None:
    path, before = str(tmp_path / "s"), raw.read_bytes()
    with running(tool("nbd", *PLAIN, "-s", "-k", path, str(raw)), path):
        run(need("qemu-io"), "-f", "raw", "-c", "write -P 9 0 1M", "-c", "read -P 9 0 1M",
            uri(path))
    assert raw.read_bytes() == before


@pytest.mark.parametrize("mode", ["none", "writethrough", "directsync", "unsafe"])
def test_cache_modes(tmp_path: Path, raw: Path, mode: str) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, f"--cache={mode}", "-k", path, str(raw)), path):
        run(need("qemu-io"), "-f", "raw", "-c", "write -P 9 512 10k", "-c", "read -P 9 513 1k",
            uri(path))
    assert raw.read_bytes()[512 : 512 + 10240] == b"\t" * 10240


def test_a_guessed_raw_format_brings_a_warning(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", "-k", path, str(raw)), path) as server:
        run(need("nbdinfo"), uri(path))
        status, err = wait_for_end(server)
    assert status == 0 and err.startswith("WARNING: Image format was not specified for")


def test_shared_clients_and_multi_conn(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, "-e", "2", "-t", "-k", path, str(raw)), path):
        run(need("nbdinfo"), "--can", "multi-conn", uri(path))
        copy = str(tmp_path / "copy")
        run(need("nbdcopy"), "-C", "2", uri(path), copy)
    assert Path(copy).read_bytes() == raw.read_bytes()


def test_an_internal_snapshot(tmp_path: Path) -> None:
    img, qio = need("qemu-img"), need("qemu-io")
    disk, path = str(tmp_path / "d.qcow2"), str(tmp_path / "s")
    run(img, "create", "-f", "qcow2", disk, "1M")
    run(qio, "-f", "qcow2", "-c", "write -P 1 0 64k", disk)
    run(img, "snapshot", "-c", "one", disk)
    run(qio, "-f", "qcow2", "-c", "write -P 2 0 64k", disk)
    for name in ("one", "1", "snapshot.name=one"):
        with running(tool("nbd", "-f", "qcow2", "-l", name, "-k", path, disk), path):
            run(qio, "-r", "-f", "raw", "-c", "read -P 1 0 64k", uri(path))
    err = run(*tool("nbd", "-f", "qcow2", "-l", "two", "-k", path, disk), status=1)
    assert err == "pytcg-nbd: Failed to load snapshot: Can't find snapshot\n"


def test_listing_reads_like_qemu_nbd_s(tmp_path: Path, raw: Path) -> None:
    ours, theirs = str(tmp_path / "o"), str(tmp_path / "t")
    common = ["-f", "raw", "-x", "disk", "-D", "text", "-A", "-t", "-e", "3"]
    listings = []
    with (running([need("qemu-nbd"), *common, "-k", theirs, str(raw)], theirs),
          running(tool("nbd", *common, "-k", ours, str(raw)), ours)):
        for server in (ours, theirs):
            listings += [run(need("qemu-nbd"), "-L", "-k", server),
                         run(*tool("nbd", "-L", "-k", server))]
    assert listings == [listings[0]] * 4


# ---- messages ----


@pytest.mark.parametrize("args", [
    (), ("a", "b"), ("-Z",), ("--nosuch", "x"), ("-f",), ("--pid-file",), ("-e", "x", "d"),
    ("-e", "-3", "d"), ("-e", "2147483648", "d"), ("-o", "abc", "d"), ("--cache=foo", "d"),
    ("--aio=foo", "d"), ("--discard=foo", "d"), ("--detect-zeroes=foo", "d"),
    ("-n", "--cache=none", "d"), ("-n", "-n", "d"), ("--discard=off", "--discard=off", "d"),
    ("--detect-zeroes=unmap", "d"), ("-k", "relative", "d"), ("--image-opts", "-f", "raw", "x=y"),
    ("-L", "d"), ("-L", "-A"), ("-L", "--fork"), ("-L", "-k", "/nosuch/s"), ("nosuch",),
    ("-f", "qcow2", "{raw}"), ("-f", "nosuch", "{raw}"), ("-f", "raw", "-k", "/nosuch/s", "{raw}"),
    ("-f", "raw", "--tls-creds", "t", "{raw}"), ("--object", "foo,id=x", "d"),
    ("--object", "tls-creds-x509,id=t,dir=/nosuch,endpoint=server", "--tls-creds", "t",
     "-f", "raw", "{raw}"),
    ("-x", "n" * 5000, "d"), ("-D", "n" * 5000, "d"), ("-B", "nosuch", "-r", "-f", "raw", "{raw}"),
    ("-f", "raw", "-r", "--pid-file", "/nosuch/p", "-k", "{tmp}/s", "{raw}"),
])
def test_messages_are_qemu_nbd_s(tmp_path: Path, raw: Path, args: tuple[str, ...]) -> None:
    need("qemu-nbd")
    if "{raw}" in args and "-k" not in args:  # it gets as far as to listen
        args = ("-p", str(free_port()), *args)
    args = tuple(arg.format(raw=raw, tmp=tmp_path) for arg in args)
    theirs = run("qemu-nbd", *args, status=1)
    ours = run(*tool("nbd", *args), status=1)
    ours = ours.replace("pytcg-nbd", "qemu-nbd")
    assert ours == theirs.replace("\nTry `", "\nqemu-nbd: Try `")


def test_what_needs_the_kernel_is_named() -> None:
    for option in (("-c", "/dev/nbd0", "x"), ("-d", "/dev/nbd0")):
        assert "the kernel's NBD client" in run(*tool("nbd", *option), status=1)


def test_help_and_version() -> None:
    assert "usage: pytcg-nbd" in run(*tool("nbd", "--help"))
    assert run(*tool("nbd", "-V")).startswith("pytcg-nbd 0.")


def test_a_busy_port_is_one_line(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "s")
    with running(tool("nbd", *PLAIN, "-r", "-t", "-k", path, str(raw)), path):
        done = subprocess.run(tool("nbd", *PLAIN, "-b", "192.0.2.1", str(raw)), text=True,
                              capture_output=True, env=environment(), check=False)
    assert done.returncode == 1
    assert done.stderr == "pytcg-nbd: Failed to bind socket: Cannot assign requested address\n"
