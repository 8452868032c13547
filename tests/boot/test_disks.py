"""Linux on the disks and CD-ROMs of the machine: what it reads and writes is what is there."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest

MIB = 1 << 20
LEAKS = 3  # qemu-img check's status
pytestmark = pytest.mark.boot
Machine = Callable[..., Terminal]


def ask(terminal: Terminal, command: str) -> str:
    """Type a command; what it printed."""
    terminal.type(command + "\n")
    return terminal.wait_for(PROMPT, ANSWER_SECONDS).decode(errors="replace")


def digest_in(text: str) -> str:
    found = re.search(r"\b[0-9a-f]{64}\b", text)
    assert found is not None, text
    return found[0]


def image(path: Path, size: int = 8 * MIB) -> bytes:
    data = random.Random(str(path)).randbytes(size)
    path.write_bytes(data)
    return data


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


DISKS = {
    "ide": ("-drive", "file={0},format={1},if=ide", "/dev/sda"),
    "virtio": ("-drive", "file={0},format={1},if=virtio", "/dev/vda"),
    "packed": ("-drive", "file={0},format={1},if=none,id=d",
               "-device", "virtio-blk-pci,drive=d,packed=on,disable-legacy=on", "/dev/vda"),
    "scsi": ("-drive", "file={0},format={1},if=none,id=d", "-device", "virtio-scsi-pci,id=s",
             "-device", "scsi-hd,drive=d,bus=s.0", "/dev/sda"),
    "nvme": ("-drive", "file={0},format={1},if=none,id=d", "-device", "nvme,drive=d,serial=n1",
             "/dev/nvme0n1"),
    "legacy": ("-drive", "file={0},format={1},if=none,id=d", "-device",
               "virtio-blk-pci,drive=d,disable-modern=on,event_idx=off,vectors=0", "/dev/vda"),
}

# By a kernel that has more drivers.
MORE_DISKS = {
    "ahci": ("-drive", "file={0},format={1},if=none,id=d", "-device", "ahci,id=a",
             "-device", "ide-hd,drive=d,bus=a.0", "/dev/sda"),
    "q35": ("-machine", "q35", "-drive", "file={0},format={1}", "/dev/sda"),
}


@pytest.mark.parametrize("format", ["raw", pytest.param("qcow2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", DISKS)
def test_guest_reads_and_writes_a_disk(machine: Machine, tmp_path: Path, kind: str, format: str
                                       ) -> None:  # fmt: skip
    read_and_write(machine, tmp_path, DISKS[kind], format)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_DISKS)
def test_a_guest_of_many_drivers_too(full_machine: Machine, tmp_path: Path, kind: str) -> None:
    read_and_write(full_machine, tmp_path, MORE_DISKS[kind], "qcow2")


def read_and_write(machine: Machine, tmp_path: Path, disk: tuple[str, ...], format: str) -> None:
    raw, path = tmp_path / "raw", tmp_path / "disk"
    before = image(raw)
    subprocess.run(["qemu-img", "convert", "-O", format, raw, path], check=True)
    *options, node = disk
    terminal = machine(*(option.format(path, format) for option in options))
    assert digest_in(ask(terminal, f"sha256sum {node}")) == sha(before)
    ask(terminal, f"dd if={node} of={node} bs=64k count=16 skip=1 seek=64 conv=fsync")
    ask(terminal, f"dd if={node} of={node} bs=512 count=3 seek=1001 conv=fsync")
    terminal.type("poweroff\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
    expected = bytearray(before)
    expected[4 * MIB : 5 * MIB] = before[65536 : 65536 + MIB]
    expected[1001 * 512 : 1004 * 512] = before[: 3 * 512]
    subprocess.run(["qemu-img", "convert", "-f", format, "-O", "raw", path, raw], check=True)
    assert sha(raw.read_bytes()) == sha(expected)
    if format != "raw":
        subprocess.run(["qemu-img", "check", path], check=True)


@pytest.mark.parametrize("kind", DISKS)
def test_flushed_data_survives_a_kill(machine: Machine, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    *options, node = DISKS[kind]
    terminal = machine(*(option.format(path, "qcow2") for option in options))
    ask(terminal, f"for n in $(seq 50); do echo block $n; done > /tmp/x; "
                  f"dd if=/tmp/x of={node} bs=512 seek=77 conv=fsync && echo sy''nced")  # fmt: skip
    terminal.process.send_signal(signal.SIGKILL)
    terminal.process.wait()
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    expected = b"".join(b"block %d\n" % number for number in range(1, 51))
    assert raw.read_bytes()[77 * 512 : 77 * 512 + len(expected)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("kind", ["ide", "virtio", "nvme"])
def test_what_was_synced_survives_a_kill_at_any_moment(machine: Machine, tmp_path: Path, kind: str,
                                                       turn: int) -> None:  # fmt: skip
    path, raw = tmp_path / "disk", tmp_path / "raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    *options, node = DISKS[kind]
    terminal = machine(*(option.format(path, "qcow2") for option in options))
    write = f"dd of={node} bs=4k seek=$((n * 37 % 16000)) conv=sync,fsync 2> /dev/null"
    terminal.type(f"n=0; while echo block $n | {write}; do echo wrote $n.; n=$((n + 1)); done\n")
    terminal.wait_for(rb"wrote 20\.", ANSWER_SECONDS)
    end = time.monotonic() + random.Random(f"{kind}{turn}").uniform(0, 5)
    while time.monotonic() < end:
        terminal.read(0.01)
    terminal.process.send_signal(signal.SIGKILL)
    terminal.process.wait()
    while terminal.read(0):
        pass
    last = int(re.findall(rb"wrote (\d+)\.", b"wrote 20." + terminal.screen)[-1])
    assert subprocess.run(["qemu-img", "check", path]).returncode in (0, LEAKS)
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    data = raw.read_bytes()
    for number in range(last + 1):
        at = number * 37 % 16000 * 4096
        assert data[at : at + 4096].rstrip(b"\0") == b"block %d\n" % number


@pytest.mark.parametrize("options", ["-cdrom {0}",
    pytest.param("-device ahci,id=a -drive file={0},if=none,id=c,media=cdrom"
                 " -device ide-cd,drive=c,bus=a.3", marks=pytest.mark.slow)],
    ids=["ide", "ahci"])  # fmt: skip
def test_guest_mounts_a_cd(request: pytest.FixtureRequest, tmp_path: Path, options: str) -> None:
    machine = request.getfixturevalue("full_machine" if "ahci" in options else "machine")
    folder, iso = tmp_path / "folder", tmp_path / "cd.iso"
    folder.mkdir()
    data = image(folder / "blob", 3 * MIB)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, folder], check=True)
    terminal = machine("-nodefaults", "-serial", "mon:stdio", *options.format(iso).split())
    ask(terminal, "mount -t iso9660 -o ro /dev/sr0 /mnt || { mkdir -p /mnt; "
                  "mount -t iso9660 -o ro /dev/sr0 /mnt; }")  # fmt: skip
    assert digest_in(ask(terminal, "sha256sum /mnt/blob")) == sha(data)
    assert digest_in(ask(terminal, "sha256sum /dev/sr0")) == sha(iso.read_bytes())


def test_snapshot_leaves_the_image_alone(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    before = image(path, MIB)
    terminal = machine("-snapshot", "-drive", f"file={path},format=raw")
    ask(terminal, "dd if=/dev/zero of=/dev/sda bs=64k count=4 conv=fsync")
    assert digest_in(ask(terminal, "sha256sum /dev/sda")) == sha(bytes(262144) + before[262144:])
    terminal.type("poweroff\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
    assert path.read_bytes() == before




@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A host file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("making a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_host_disk_stops_the_machine_until_there_is_room(
        small_disk: Path, machine: Machine) -> None:  # fmt: skip
    path = small_disk / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    terminal = machine("-drive", f"file={path},if=virtio")
    terminal.type("dd if=/dev/urandom of=/dev/vda bs=64k count=128 conv=fsync && echo sy''nced\n")
    for _ in range(600):
        terminal.type("\x01c")
        terminal.wait_for(rb"\(qemu\) ", ANSWER_SECONDS)
        terminal.type("info status\n")
        stopped = b"io-error" in terminal.wait_for(rb"VM status.*\n.*\(qemu\) ", ANSWER_SECONDS)
        if stopped:
            break
        terminal.type("\x01c")
        terminal.read(0.5)
    assert stopped
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    terminal.type("cont\n")
    terminal.wait_for(rb"\(qemu\) ", ANSWER_SECONDS)
    terminal.type("\x01c")
    terminal.wait_for(b"synced", ANSWER_SECONDS)
    terminal.type("sha256sum /dev/vda\n")
    digest = digest_in(terminal.wait_for(rb"[0-9a-f]{64}", BOOT_SECONDS).decode())
    terminal.process.kill()
    terminal.process.wait()
    assert subprocess.run(["qemu-img", "check", path]).returncode in (0, LEAKS)
    raw = path.with_name("raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    assert sha(raw.read_bytes()) == digest


GRUB = """\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
echo "GRUB says hello"
linux /vmlinuz console=ttyS0 quiet
initrd /initrd
boot
"""


@pytest.fixture(scope="module")
def rescue(initramfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ISO image that boots by GRUB, from a CD and from a disk."""
    folder = tmp_path_factory.mktemp("rescue")
    tree = folder / "tree"
    (tree / "boot" / "grub").mkdir(parents=True)
    (tree / "boot" / "grub" / "grub.cfg").write_text(GRUB)
    (tree / "vmlinuz").write_bytes((initramfs.parent / guest.KERNEL).read_bytes())
    (tree / "initrd").write_bytes(initramfs.read_bytes())
    iso = folder / "rescue.iso"
    subprocess.run(["grub-mkrescue", "-o", iso, tree], check=True, capture_output=True)
    return iso


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("raw", "-cdrom {0}"),
        ("raw", "-drive file={0},format=raw"),
        ("qcow2", "-drive file={0},if=virtio"),
        pytest.param("qcow2", "-drive file={0},if=none,id=d -device nvme,drive=d,serial=1",
                     marks=pytest.mark.slow),
        pytest.param("qcow2", "-device ahci,id=a -drive file={0},if=none,id=d"
                              " -device ide-hd,drive=d,bus=a.0", marks=pytest.mark.slow),
        pytest.param("raw", "-device ahci,id=a -drive file={0},if=none,id=d,media=cdrom"
                            " -device ide-cd,drive=d,bus=a.0", marks=pytest.mark.slow),
        pytest.param("qcow2", "-machine q35 -hda {0}", marks=pytest.mark.slow),
        pytest.param("raw", "-machine q35 -cdrom {0}", marks=pytest.mark.slow),
    ],
    ids=["cd", "ide", "virtio", "nvme", "ahci", "ahci-cd", "q35", "q35-cd"],
)
def test_firmware_and_grub_boot_linux(rescue: Path, tmp_path: Path, format: str, options: str
                                      ) -> None:  # fmt: skip
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, rescue, disk], check=True)
    terminal = Terminal("-m", "256", "-nographic", "-no-reboot", *options.format(disk).split())
    try:
        terminal.wait_for(b"GRUB says hello", BOOT_SECONDS)
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        terminal.type("poweroff\n")
        assert terminal.wait(ANSWER_SECONDS) == 0
    finally:
        terminal.close()
