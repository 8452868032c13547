"""File systems: what is mounted, how full it is; freezing and trimming them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from pytcg.ga.command import CommandError, command, failed
from pytcg.ga.disks import address_of, real_path

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

FIFREEZE, FITHAW, FITRIM = 0xC0045877, 0xC0045878, 0xC0185879
TRIM = struct.Struct("<QQQ")  # start, length, least length of a piece
OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo whose file system has a disk."""

    folder: str
    kind: str
    major: int
    minor: int


def mounts(agent: Agent) -> list[Mount]:
    """Newest last."""
    found = []
    with open(agent.path("/proc/self/mountinfo"), encoding="utf-8",
              errors="surrogateescape") as file:  # fmt: skip
        for line in file:
            words = line.split()
            dash = words.index("-")
            major, minor = map(int, words[2].split(":"))
            kind, source = words[dash + 1], words[dash + 2]
            if not major and kind == "btrfs":
                major, minor = _device_of(source)
            if major:
                folder = OCTAL.sub(lambda match: chr(int(match[1], 8)), words[4])
                found.append(Mount(folder, kind, major, minor))
    return found


def _device_of(source: str) -> tuple[int, int]:
    try:
        number = os.stat(source).st_rdev
    except OSError:
        return 0, 0
    return os.major(number), os.minor(number)


@command("guest-get-fsinfo")
def fs_info(agent: Agent) -> list[dict[str, Any]]:
    """Mounted file systems and the disks that they lie on."""
    rows = []
    for mount in mounts(agent):
        name = os.path.basename(os.path.realpath(
            agent.path(f"/sys/dev/block/{mount.major}:{mount.minor}")))  # fmt: skip
        row: dict[str, Any] = {"name": name, "mountpoint": mount.folder, "type": mount.kind}
        row["disk"] = [address for disk in _disks_under(agent, name)
                       if (address := address_of(agent, disk)) is not None]  # fmt: skip
        try:
            space = os.statvfs(mount.folder)
        except OSError:
            rows.append(row)
            continue
        used = space.f_blocks - space.f_bfree
        row["used-bytes"] = used * space.f_frsize
        row["total-bytes"] = (used + space.f_bavail) * space.f_frsize
        rows.append(row)
    return rows


def _disks_under(agent: Agent, name: str) -> list[str]:
    """The whole disks that a partition or a mapped device consists of."""
    place = real_path(agent, name)
    slaves = os.path.join(place, "slaves")
    if os.path.exists(os.path.join(place, "partition")):
        return [os.path.basename(os.path.dirname(place))]
    below = os.listdir(slaves) if os.path.isdir(slaves) else []
    return [disk for slave in sorted(below) for disk in _disks_under(agent, slave)] or [name]


# --- freezing ------------------------------------------------------------------------------------


def _control(folder: str, request: int) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, request)
    finally:
        os.close(fd)


def _hook(agent: Agent, word: str) -> None:
    """Tell the site's own script what comes."""
    if not agent.freeze_hook or not os.access(agent.freeze_hook, os.X_OK):
        return
    status = subprocess.run([agent.freeze_hook, word], stdin=subprocess.DEVNULL, check=False,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if status:
        raise CommandError(f"fsfreeze hook has failed with status {status}")


@command("guest-fsfreeze-status")
def freeze_status(agent: Agent) -> str:
    """`frozen` or `thawed`."""
    return "frozen" if agent.frozen else "thawed"


@command("guest-fsfreeze-freeze")
def freeze_all(agent: Agent) -> int:
    """Hold all writes; how many file systems."""
    return freeze(agent, None)


@command("guest-fsfreeze-freeze-list", {"mountpoints?": [str]})
def freeze_list(agent: Agent, mountpoints: list[str] | None = None) -> int:
    """Hold writes to some file systems; all of them if none are named."""
    return freeze(agent, mountpoints)


def freeze(agent: Agent, mountpoints: list[str] | None) -> int:
    """Freeze them; how many."""
    _hook(agent, "freeze")
    chosen = [mount for mount in mounts(agent)
              if mountpoints is None or mount.folder in mountpoints]  # fmt: skip
    agent.set_frozen(frozen=True)
    done = 0
    for mount in reversed(chosen):  # what is mounted on another one goes first
        try:
            _control(mount.folder, FIFREEZE)
            done += 1
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EBUSY, errno.ENOTTY):
                continue  # it can't, or it is frozen already by another path
            thaw_all(agent)
            raise failed(f"failed to freeze {mount.folder}", error) from error
    if not done:
        agent.set_frozen(frozen=False)
        _hook(agent, "thaw")
    return done


@command("guest-fsfreeze-thaw")
def thaw(agent: Agent) -> int:
    """Let writes go on; how many file systems were held."""
    return thaw_all(agent)


def thaw_all(agent: Agent) -> int:
    """Thaw until nothing is frozen: a file system may be held more than once."""
    done = 0
    was_frozen = agent.frozen
    for mount in mounts(agent):
        held = False
        try:
            while True:
                _control(mount.folder, FITHAW)
                held = True
        except OSError:
            done += held
    agent.set_frozen(frozen=False)
    if was_frozen:
        _hook(agent, "thaw")
    return done


@command("guest-fstrim", {"minimum?": int})
def trim(agent: Agent, minimum: int = 0) -> dict[str, Any]:
    """Tell disks what is free; bytes for each file system, or why not."""
    rows = []
    for mount in mounts(agent):
        row: dict[str, Any] = {"path": mount.folder}
        try:
            fd = os.open(mount.folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                span = fcntl.ioctl(fd, FITRIM, TRIM.pack(0, (1 << 64) - 1, minimum))
            finally:
                os.close(fd)
            _, row["trimmed"], row["minimum"] = TRIM.unpack(span)
        except OSError as error:
            cannot = error.errno in (errno.ENOTTY, errno.EOPNOTSUPP)
            row["error"] = "trim not supported" if cannot else f"failed to trim: {error.strerror}"
        rows.append(row)
    return {"paths": rows}
