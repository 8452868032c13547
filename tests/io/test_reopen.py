"""Options of an opening and what `reopen` may change: beside qemu-io."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_io_commands import both, commands

CACHES = [
    "cache-size=1.25M,l2-cache-size=1M,refcount-cache-size=0.25M", "cache-size=1M,l2-cache-size=2M",
    "cache-size=1M,refcount-cache-size=2M", "cache-size=0,l2-cache-size=0,refcount-cache-size=0",
    "l2-cache-entry-size=256", "l2-cache-entry-size=4242", "l2-cache-entry-size=128k",
    "l2-cache-entry-size=512", "cache-size=0", "l2-cache-size=0", "refcount-cache-size=0",
    "cache-size=2M,l2-cache-size=1M", "cache-size=2M,refcount-cache-size=1M",
    "refcount-cache-size=256T", "cache-clean-interval=-1", "cache-clean-interval=5",
    "overlap-check=all", "overlap-check.template=none", "overlap-check=some",
    "overlap-check=constant,overlap-check.template=all", "overlap-check.active-l1=off",
    "overlap-check=none,overlap-check.active-l1=on", "overlap-check.l3=on",
    "overlap-check.main-header=maybe", "lazy-refcounts=42", "pass-discard-other=on",
]


@pytest.mark.parametrize("options", CACHES)
def test_options_of_qcow2(tmp_path: Path, options: str) -> None:
    theirs, ours = both(tmp_path, commands(f"open -o {options} q.qcow2\nwrite 0 64k\nread 0 1k"))
    assert ours == theirs


REOPENED = [
    "-o node-name=foo", "-o file.node-name=foo", "-o backing.node-name=foo", "-o driver=raw",
    "-o driver=qcow2", "-o file.driver=qcow2", "-o file.driver=file", "-o backing.driver=file",
    "-o backing.driver=qcow2", "-r -o read-only=on", "-w -o read-only=on", "-r",
    "-c none -o cache.direct=on", "-c directsync -o cache.no-flush=on", "-o read-only=foo",
    "-o cache.no-flush=bar", "-o cache.direct=baz", "-o auto-read-only=qux", "-o nothing=1",
    "-o lazy-refcounts=on,overlap-check=blubb", "-o cache-size=1M,l2-cache-size=2M", "-r -w",
]


@pytest.mark.parametrize("flags", REOPENED)
def test_reopening(tmp_path: Path, flags: str) -> None:
    theirs, ours = both(tmp_path, [*commands(f"reopen {flags}\nwrite 0 1k\nreopen\nread 0 1k"),
                                   "q.qcow2"])
    assert ours == theirs


def test_options_stay_until_others_of_their_group_come(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, commands("""
        open -o node-name=a,file.node-name=b,backing.node-name=c,cache-size=1M q.qcow2
        reopen -o node-name=a
        reopen -o file.node-name=b,backing.node-name=c
        reopen -o overlap-check=constant
        reopen -o overlap-check.template=all
        reopen -o l2-cache-size=64k
        reopen -o refcount-cache-size=2M
        reopen -o cache-size=1M
        read 0 1k"""))
    assert ours == theirs


def test_a_null_disk_can_be_reopened(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, ["-f", "null-co", *commands("reopen\ninfo"),
                                   "json:{'driver': 'null-co', 'size': 65536}"])
    assert ours == theirs
