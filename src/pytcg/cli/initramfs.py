"""An initramfs of one static busybox: a cpio "newc" archive (kernel: "initramfs buffer format")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG
from typing import Final

TRAILER: Final = "TRAILER!!!"

# PID 1 is a shell script, and `poweroff`, `reboot` and `halt` ask PID 1 by signal (busybox's
# init.h), so it catches those signals. A trap is only served while the script waits, never while
# a foreground child runs; but what a script starts with `&` ignores SIGINT for good. So the
# shell gets away by `setsid`, which forks when its process leads a group already: the second one.
INIT: Final = """\
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100} PS1='\\w # '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
hostname guest
for module in /modules/*.ko; do [ -e "$module" ] && insmod "$module"; done
trap 'sync; poweroff -f' USR2
trap 'sync; halt -f' USR1
trap 'sync; reboot -f' TERM
cd /root
echo
echo "$(uname -sr) on $(uname -m): a busybox shell. poweroff leaves it, help lists the commands."
setsid setsid sh -c 'while :; do setsid cttyhack sh; done' < /dev/console > /dev/console 2>&1
while :; do
    sleep 86400 &
    wait $!
done
"""

DIRECTORIES: Final = (
    "bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "proc", "sys", "root", "tmp", "etc",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One archive member: a directory, file, link or character device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    """A directory, 0755."""
    return Entry(name, S_IFDIR | 0o755)


def executable(name: str, data: bytes) -> Entry:
    """A regular file, 0755."""
    return Entry(name, S_IFREG | 0o755, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device node, 0600."""
    return Entry(name, S_IFCHR | 0o600, device=(major, minor))


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _member(inode: int, entry: Entry) -> bytes:
    """Header of thirteen 8-digit hexadecimal fields, name and data, each padded to 4 bytes."""
    name = entry.name.encode() + b"\0"
    links = 2 if entry.mode & S_IFDIR == S_IFDIR else 1
    fields = (
        inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _pad(header + name) + _pad(entry.data)


def newc(entries: Iterable[Entry]) -> bytes:
    """The archive, with the trailer and the usual padding to 512 bytes; same input, same bytes."""
    archive = b"".join(_member(inode, entry) for inode, entry in enumerate(entries, 1))
    archive += _member(0, Entry(TRAILER, 0))
    return archive + bytes(-len(archive) % 512)


def build(busybox: bytes, applets: Iterable[str]) -> bytes:
    """The initramfs: busybox, a link for each applet, the console node and /init."""
    links = (symlink(f"bin/{name}", "busybox") for name in applets if name != "busybox")
    return newc(
        (
            *map(directory, DIRECTORIES),
            character_device("dev/console", 5, 1),
            executable("bin/busybox", busybox),
            executable("init", INIT.encode()),
            *links,
        )
    )
