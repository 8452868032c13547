"""pytcg-io beside qemu-io: the same commands on the same images, output and status compared."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SRC = str(Path(__file__).parents[2] / "src")
OURS = [sys.executable, "-m", "pytcg.cli.io"]


def need(program: str) -> str:
    """The name of a peer; the test is skipped where it is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return program


def masked(text: str) -> str:
    """Without times, rates and the program's name."""
    text = re.sub(r"(\d\d\.\d\d sec|\d+:\d\d:\d\d\.\d\d) \([^)]*\)", "TIME", text)
    text = re.sub(r",1,\d+:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+", ",1,TIME", text)
    return text.replace("pytcg-io", "qemu-io")


def run(command: Sequence[str], directory: Path, stdin: str | None = None
        ) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a program in a directory."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60,
                          input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                          env={**os.environ, "PYTHONPATH": SRC}, check=False)
    return done.returncode, masked(done.stdout), masked(done.stderr)


def make_images(directory: Path) -> None:
    """A raw disk and a qcow2 over a backing file, the same each time."""
    directory.mkdir()
    with open(directory / "d.img", "wb") as file:
        file.truncate(10 << 20)
        file.write(b"begin" * 100)
    (directory / "pattern").write_bytes(b"ab")
    (directory / "empty").write_bytes(b"")
    commands = (
        "qemu-img create -q -f qcow2 b.qcow2 1M", "qemu-io -c 'write -q -P 1 0 128k' b.qcow2",
        "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 q.qcow2",
    )
    subprocess.run("; ".join(commands), shell=True, check=True, cwd=directory)


def both(tmp_path: Path, args: Sequence[str], stdin: str | None = None
         ) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """What both programs say, each on images of its own."""
    need("qemu-io")
    need("qemu-img")
    said = []
    for name, program in (("theirs", ["qemu-io"]), ("ours", OURS)):
        make_images(tmp_path / name)
        said.append(run([*program, *args], tmp_path / name, stdin))
    return said[0], said[1]


def commands(lines: str) -> list[str]:
    """-c for each line."""
    return [word for line in lines.strip().splitlines() for word in ("-c", line)]


RAW = r"""
read 0 64k
read -v 0 64
read -v 3 30
read -vC 0 16
read -q 0 64
read -qv 0 64
read -P 0 0 64k
read -P 0 4k 64k
read -P 0x62 -l 1 0 64
read -P 0 -s 1k -l 10 0 2k
read -P 0 -s 1000 0 2k
read -P 0 -l 17 0 16
read -P 0 -s 17 0 16
read -s 4 0 64
read -l 4 0 64
read -C 0 64k
read -p 0 64k
read -b 0 64k
read
read 0
read 0 0
read 0 1 2
read -1 5
read abc 5
read 0 abc
read 0 1.5k
read 0 1e3
read 0 0x200
read 0 3g
read 0 11M
read 9M 2M
read 0 99999999999999999999
read 9223372036854775807 1
read -P 256 0 64
read -P -1 0 64
read -P foo 0 64
read -z 0 64
read "0" 512
   read   0   512
r 0 5
write 0 64k
write -P 5 1 3
write -P 0x41 100 40
write -z 0 64k
write -zu 0 64k
write -zf 0 64k
write -zn 0 64k
write -zC 0 64k
write -n 0 64k
write -u 0 64k
write -c 0 64k
write -c 0 1000
write -b 0 64k
write -bf 0 64k
write -bc 0 64k
write -bz 0 64k
write -f 0 512
write -s pattern 0 1k
read -v 0 32
write -s nosuch 0 64
write -s empty 0 64
write -P 3 -s pattern 0 64k
write -P 3 -z 0 64k
write -q 0 512
write -C 0 512
write 9M 2M
write 10M 1
w 0 1
readv 0 512 512 1k
readv -v 0 16 16
readv -P 0 0 512 512
readv -P 0 1M 512 512
readv -q 0 512
readv 0
readv 0 20M
rv 0 1
writev -P 7 0 512 1k
writev -q 0 512
writev 0 0
writev 0 abc
writev -f 0 512
writev -z 0 512
wv 0 1
discard 0 64k
discard -C 0 64k
discard -q 0 64k
discard 9M 2M
discard 0 3g
discard 0 -1
discard abc 0
discard
flush
flush x
map
map x
alloc 0 64k
alloc 0
alloc 10M 1
alloc 0 11M
alloc 5
alloc -5
alloc
length
length x
info
truncate 11M
length
truncate -m off 12M
truncate -m falloc 12M
truncate -m foo 12M
truncate
truncate abc
t 10M
sleep 1
sleep
sleep abc
sigraise 0
sigraise foo
foo
help foo
help a b
aio_read -b 0 1
aio_write -u 0 1
aio_write -z 0 5 6
aio_write -i 0 4k
aio_read -i 0 4k
aio_read 0
aio_read 0 x
aio_read -P 300 0 1
aio_flush 1
reopen a
reopen -r -w
reopen -c foo
reopen -o
reopen -o foo=bar
open foo
close x
"""

QCOW2 = """
info
length
map
alloc 0 128k
write -c 64k 64k
write -c 64k 64k
write -c 0 512
write -c 512 64k
write -zc 192k 64k
map
alloc 0 1M
alloc 128k 128k
write -zu 512k 64k
write -z 600k 64k
map
read -P 1 0 64k
read -P 0 512k 64k
discard 512k 64k
map
write -P 9 1000k 24k
map
truncate 2M
map
truncate 512k
map
read -P 1 64k 64k
read -P 0xcd 64k 64k
reopen -r
write 0 1
writev 0 1
truncate 1M
discard 0 1
aio_write 0 1
map
reopen -w
write 0 1
reopen -c none
write -P 3 5 4000
read -P 3 5 4000
reopen -o lazy-refcounts=on
write 0 64k
close
read 0 1
"""


@pytest.mark.parametrize("flags", [[], ["-d", "ignore"], ["-n"], ["-t", "writethrough"]])
def test_the_same_on_a_raw_disk(tmp_path: Path, flags: list[str]) -> None:
    theirs, ours = both(tmp_path, [*flags, "-f", "raw", *commands(RAW), "d.img"])
    assert ours == theirs
    same = [(tmp_path / who / "d.img").read_bytes() for who in ("ours", "theirs")]
    assert same[0] == same[1]


@pytest.mark.parametrize("flags", [[], ["-d", "ignore"], ["-n"]])
def test_the_same_on_a_qcow2_chain(tmp_path: Path, flags: list[str]) -> None:
    theirs, ours = both(tmp_path, [*flags, *commands(QCOW2), "q.qcow2"])
    assert ours == theirs
    run(["qemu-img", "check", "q.qcow2"], tmp_path / "ours")
    compared = run(["qemu-img", "compare", "ours/q.qcow2", "theirs/q.qcow2"], tmp_path)
    assert compared[0] == 0, compared


@pytest.mark.parametrize("args", [
    ["-c", "length"], ["-f", "foo", "d.img"], ["nosuch"], ["-f", "raw", "--image-opts", "x"],
    ["-t", "foo", "d.img"], ["-d", "foo", "d.img"], ["-i", "foo", "d.img"],
    ["-U", "-c", "length", "q.qcow2"], ["-r", "-U", "-c", "length", "q.qcow2"],
    ["-c", "length", "d.img"], ["-c", "close", "-c", "length", "d.img"],
    ["-f", "raw", "-c", "close", "-c", "length", "-c", "open -r -o driver=raw d.img",
     "-c", "length", "-c", "write 0 1", "d.img"],
    ["--image-opts", "driver=raw,file.filename=d.img", "-c", "length"],
    ["-c", "open -r -o driver=raw,file.filename=d.img", "-c", "length", "-c", "reopen -w",
     "-c", "write -q 0 512", "-c", "reopen -r", "-c", "write -q 0 512"],
    ["-c", "open q.qcow2", "-c", "open q.qcow2", "-c", "quit", "-c", "length"],
    ["-c", "open", "-c", "open a b", "-c", "open -t foo d.img", "-c", "open -d foo d.img"],
    ["-c", "open -o driver=foo d.img", "-c", "open nosuch", "-c", "open -Z"],
    ["-r", "-f", "raw", "-c", "write 0 1", "-c", "aio_write 0 1", "-c", "discard 0 1", "-c",
     "truncate 1", "-c", "writev 0 1", "-c", "flush", "-c", "read 0 1", "d.img"],
    ["-s", "-f", "raw", "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M", "-c", "map", "d.img"],
    ["-f", "raw", "-c", "q x", "-c", "length", "d.img"],
    ["-f", "qcow2", "-c", "length", "d.img"],
])
def test_the_same_command_lines(tmp_path: Path, args: list[str]) -> None:
    theirs, ours = both(tmp_path, args)
    assert ours == theirs
    disks = [(tmp_path / who / "d.img").read_bytes() for who in ("ours", "theirs")]
    assert disks[0] == disks[1]


@pytest.mark.parametrize("line", [
    "aio_read 0 64k", "aio_read -P 9 0 4k", "aio_read -v 0 32", "aio_read -C 0 64k 64k",
    "aio_write -P 9 0 4k", "aio_write -z 0 4k", "aio_write -zP 3 0 4k", "aio_write -zu 0 4k",
    "aio_write -q 0 4k", "aio_write -f 0 4k", "aio_write 10M 4k", "aio_read 10M 4k",
])
def test_requests_in_flight_report_when_they_end(tmp_path: Path, line: str) -> None:
    theirs, ours = both(tmp_path, ["-f", "raw", "-c", line, "-c", "aio_flush", "d.img"])
    assert ours == theirs


def test_the_end_waits_for_requests_in_flight(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, ["-f", "raw", "-c", "aio_write -P 1 0 64k", "d.img"])
    assert ours == theirs


def test_many_requests_in_flight_leave_what_they_wrote(tmp_path: Path) -> None:
    lines = [f"aio_write -q -P {n % 251} {n * 8192} 8k" for n in range(300)]
    make_images_here = tmp_path / "x"
    need("qemu-img")
    make_images(make_images_here)
    args = commands("\n".join([*lines, "aio_flush"]))
    assert run([*OURS, "-f", "raw", *args, "d.img"], make_images_here) == (0, "", "")
    data = (make_images_here / "d.img").read_bytes()
    assert data[: 300 * 8192] == b"".join(bytes([n % 251]) * 8192 for n in range(300))


def test_the_same_on_an_nbd_export(tmp_path: Path) -> None:
    need("qemu-nbd")
    lines = ("info", "map", "alloc 0 64k", "length", "read 0 11M", "write -P 3 1M 64k",
             "write -f 0 512", "write -z 64k 64k", "discard 0 4k", "read -P 3 1M 64k", "flush",
             "write 10M 1", "reopen -r", "reopen -w", "read -v 0 16")
    said = []
    for who, program in (("theirs", ["qemu-io"]), ("ours", OURS)):
        make_images(tmp_path / who)
        for start in (["qemu-nbd"], [sys.executable, "-m", "pytcg.cli.nbd"]):
            path = str(tmp_path / "s")
            run([*start, "-f", "raw", "--fork", "-t", "-k", path, "--pid-file",
                 str(tmp_path / "pid"), "d.img"], tmp_path / who)
            try:
                where = f"nbd+unix:///?socket={path}"
                said.append(run([*program, "-f", "raw", *commands("\n".join(lines)), where],
                                tmp_path))
            finally:
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
                while os.path.exists(path):
                    time.sleep(0.02)
    assert said[0][0] == 1 and said == [said[0]] * 4


def test_prompted_commands(tmp_path: Path) -> None:
    stdin = "read 0 512\nfoo\nread -P 9 0 512\n\nlength\nquit\nlength\n"
    theirs, ours = both(tmp_path, ["q.qcow2"], stdin)
    assert ours == theirs
    assert ours[1].startswith("qemu-io> ")


def test_the_end_of_input_ends_it(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, ["q.qcow2"], "length\n")
    assert ours == theirs


def test_death_by_signal(tmp_path: Path) -> None:
    args = ["-f", "raw", "-c", "write -q -P 4 0 1k", "-c", "sigraise 9", "-c", "length", "d.img"]
    theirs, ours = both(tmp_path, args)
    assert ours == theirs and ours[0] == -9
    assert (tmp_path / "ours" / "d.img").read_bytes()[:1024] == b"\4" * 1024


def test_help_names_every_command_of_qemu_io(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, ["-c", "help"])
    names = [{line.split()[0] for line in said[1].splitlines() if " -- " in line}
             for said in (theirs, ours)]
    assert names[0] == names[1]
    assert names[1] <= names[0]
    helps = commands("\n".join(f"help {name}" for name in sorted(names[1])))
    status, text, err = run([*OURS, *helps], tmp_path)
    assert (status, err) == (0, "")
    assert all(re.search(rf"^{name} .*-- .*\n\n .", text, re.M) for name in names[1])


def test_options_that_only_print() -> None:
    for option, start in (("--help", "usage: pytcg-io"), ("--version", "pytcg-io 0.")):
        done = subprocess.run([*OURS, option], capture_output=True, text=True, check=True,
                              env={**os.environ, "PYTHONPATH": SRC})
        assert done.stdout.startswith(start)


@pytest.mark.parametrize("seed", range(5))
def test_fuzzed_lines_never_end_in_a_traceback(tmp_path: Path, seed: int) -> None:
    need("qemu-img")
    make_images(tmp_path / "x")
    rng = random.Random(seed)
    heads = ("read", "write", "readv", "writev", "aio_read", "aio_write", "discard", "alloc",
             "truncate", "map", "length", "info", "flush", "reopen", "help", "sleep", "foo")
    tails = ("0", "512", "64k", "-1", "-P", "-v", "-q", "-z", "-u", "-f", "-c", "-C", "-n", "-s",
             "-l", "-b", "-i", "-r", "9M", "1.5k", "x", "", "--", "-", "0x", "\u00e4", "5e", "-m")
    lines = [" ".join([rng.choice(heads), *rng.choices(tails, k=rng.randrange(5))])
             for _ in range(150)]
    status, _, err = run([*OURS, "-f", "raw", "d.img"], tmp_path / "x", "\n".join(lines))
    assert status in (0, 1) and "Traceback" not in err
