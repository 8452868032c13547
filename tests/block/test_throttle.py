"""I/O limits: averages, bursts, request sizes, groups, and what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.filters.throttle import Limits, Throttle, ThrottleGroup

from .images import make_open

MIB = 1 << 20


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def group(time: FakeTime, **options: int) -> ThrottleGroup:
    """A group with limits such as ``bps_total=...``."""
    limits = Limits.parse({name.replace("_", "-"): value for name, value in options.items()})
    return ThrottleGroup(limits, time.clock, time.sleep)


def test_a_total_is_shared_by_reads_and_writes() -> None:
    time = FakeTime()
    limited = group(time, bps_total=MIB)
    for _ in range(8):
        limited.admit("read", MIB // 2)
        limited.admit("write", MIB // 2)
    assert 6.5 < time.now < 8.5  # 8 MiB at 1 MiB a second


def test_directions_have_limits_of_their_own() -> None:
    time = FakeTime()
    limited = group(time, iops_write=100)
    for _ in range(500):
        limited.admit("read", MIB)
    assert time.now == 0
    for _ in range(500):
        limited.admit("write", 1)
    assert 4 < time.now < 6


def test_a_burst_lasts_its_length_and_then_the_average_counts() -> None:
    time = FakeTime()
    limited = group(time, iops_total=100, iops_total_max=1000, iops_total_max_length=5)
    done = 0
    while time.now < 5:
        limited.admit("read", 1)
        done += 1
    assert 4500 < done < 6000  # 1000 a second while the burst lasts
    done = 0
    while time.now < 25:
        limited.admit("read", 1)
        done += 1
    assert 1800 < done < 2600


def test_large_requests_count_as_several() -> None:
    time = FakeTime()
    limited = group(time, iops_total=100, iops_size=4096)
    for _ in range(100):
        limited.admit("read", 8192)
    assert 1.7 < time.now < 2.1


def test_without_limits_nothing_waits() -> None:
    time = FakeTime()
    limited = group(time)
    limited.admit("write", 1 << 60)
    limited.admit("write", 1 << 60)
    assert time.now == 0


def test_disks_of_a_group_share_its_limits(tmp_path: Path) -> None:
    time = FakeTime()
    limited = group(time, bps_total=MIB)
    for name in ("a.raw", "b.raw"):
        with make_open(tmp_path / name, 4 * MIB, driver="raw") as plain:
            disk = Throttle(plain, limited)
            disk.pwrite(0, b"y" * MIB)
            disk.pwrite(0, b"y" * MIB)
            assert disk.pread(0, 1) == b"y"
            disk.write_zeroes(0, MIB)
            disk.discard(0, 4096)
    assert time.now > 5


def test_threads_that_wait_all_get_their_turn() -> None:
    limited = ThrottleGroup(Limits.parse({"iops-total": 2000}))
    threads = [threading.Thread(target=lambda: [limited.admit("read", 1) for _ in range(50)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("options", [
    {"bps-total": 1, "bps-read": 1}, {"iops-total": 1, "iops-write": 1}, {"bps-total-max": 9},
    {"bps-total": 9, "bps-total-max": 5}, {"bps-total": 1, "bps-total-max-length": 0},
    {"bps-total": 1, "bps-total-max-length": 2}, {"bps-total": -1}, {"bps-total": 10**16},
    {"iops-size": 512}, {"iops-read": 1, "iops-read-max": 10**15, "iops-read-max-length": 2},
    {"frob": 1}], ids=str)
def test_limits_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BlockError):
        Limits.parse(options)
