"""Linux mounts folders of the host's and works in them."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT, Terminal
from boot.test_disks import ask, digest_in
from ninep.helpers import OUR_HELPER, QEMU_HELPER, SOURCES
from pytcg.cli import guest, guest_shares

pytestmark = [pytest.mark.boot, pytest.mark.slow]
Machine = Callable[..., Terminal]
MOUNT = "mkdir -p /mnt; mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000{1} {0} /mnt"


@pytest.fixture
def sharing(terminals: Machine) -> Machine:
    """Boots a guest that knows 9p, with an export of a folder: `sharing(option, …)`."""
    initramfs = guest_shares.ensure(guest.cache_folder())

    def start(*options: str, **program: tuple[str, ...]) -> Terminal:
        terminal = terminals(
            "-m", "256", "-nographic", "-no-reboot", *options,
            "-kernel", str(initramfs.parent / guest_shares.KERNEL), "-initrd", str(initramfs),
            "-append", "console=ttyS0 quiet", **program,
        )  # fmt: skip
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        return terminal

    return start


def told(terminal: Terminal, command: str) -> str:
    """What a command printed, without the terminal's returns."""
    return ask(terminal, command).replace("\r", "")


def test_guest_works_in_folders_of_all_models(sharing: Machine, tmp_path: Path) -> None:
    kinds = {"none": 1, "passthrough": 1, "mapped-xattr": 0, "mapped-file": 0}
    options = []
    for kind in kinds:
        (tmp_path / kind).mkdir()
        where = f"path={tmp_path / kind},security_model={kind}"
        options += ["-virtfs", f"local,mount_tag={kind},{where}"]
        options += ["-fsdev", f"local,id=u-{kind},{where}",
                    "-device", f"virtio-9p-pci,fsdev=u-{kind},mount_tag=u-{kind}"]  # fmt: skip
    terminal = sharing(*options)
    for kind, real in kinds.items():
        ask(terminal, MOUNT.format(kind, ""))
        ask(terminal, "cd /mnt; echo text > f; chmod 4750 f; chown 12:34 f; ln -s f s; ln f h; "
                      "mknod b b 8 300; mknod p p; mkdir -m 1777 d; cp f d/f; mv h d/h")
        shown = told(terminal, "stat -c '%n:%a:%u:%g:%t:%T:%F:%s;' *; cat s d/f d/h; ls -l s")
        for line in ("f:750:12:34:0:0:regular file:5;", "b:644:0:0:8:12c:block special file:0;",
                     "p:644:0:0:0:0:fifo:0;", "d:1777:0:0:0:0:directory:",
                     "s:777:0:0:0:0:symbolic link:1;", "s -> f", "text\ntext\ntext"):
            assert line in shown, (kind, shown)
        ask(terminal, f"cd /; umount /mnt; mount -t 9p -o version=9p2000.u u-{kind} /mnt; cd /mnt")
        shown = told(terminal, "stat -c '%n:%a:%u:%g:%F:%s;' *; cat f d/h; ls -l s")
        for line in ("f:750:12:34:regular file:5;", "b:644:0:0:block special file:0;",
                     "d:1777:0:0:directory:", "s -> f", "text\ntext"):
            assert line in shown, (kind, shown)
        ask(terminal, "echo more >> f; rm -r d; ln -s x y; mkdir z; mknod q p; mv f z/g; cd /")
        assert "text\nmore" in told(terminal, "cat /mnt/z/g; umount /mnt")
        host = tmp_path / kind
        assert (host / "s").is_symlink() == (host / "p").is_fifo() == bool(real)
        assert (host / "q").is_fifo() == bool(real) and not (host / "d").exists()
        assert (host / "z" / "g").read_text() == "text\nmore\n"


def test_guest_works_in_a_folder(sharing: Machine, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    for number in range(2000):
        (tmp_path / "many" / str(number)).parent.mkdir(exist_ok=True)
        (tmp_path / "many" / str(number)).touch()
    terminal = sharing("-virtfs", f"local,path={tmp_path},mount_tag=tag,security_model=none")
    ask(terminal, MOUNT.format("tag", ""))
    assert digest_in(ask(terminal, "sha256sum /mnt/data")) == hashlib.sha256(data).hexdigest()
    assert "2000\n" in told(terminal, "ls /mnt/many | wc -l")
    ask(terminal, "cd /mnt; mkdir d; cp data d/copy; mv d e; ln e/copy hard; ln -s e/copy soft; "
                  "mknod pipe p; sync; dd if=data of=part bs=4k skip=3 count=5; chmod 640 part; "
                  "touch -d '2001-02-03 04:05:06' part; truncate -s 20000 part; rm -r many")
    assert "6666" in ask(terminal, "(sleep 1; echo 6665 > pipe)& echo $(($(cat pipe) + 1))")
    assert "1000" in ask(terminal, "exec 5<>gone; rm gone; echo 9 >&5; echo $((999+1)); exec 5>&-")
    terminal.type("cd /; umount /mnt; poweroff\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
    assert (tmp_path / "e" / "copy").read_bytes() == data
    assert (tmp_path / "hard").samefile(tmp_path / "soft")
    found = (tmp_path / "part").stat()
    assert (tmp_path / "part").read_bytes() == data[3 * 4096 :][:20000]
    assert found.st_mode == 0o100640
    assert not (tmp_path / "gone").exists() and not (tmp_path / "many").exists()


def test_files_are_what_programs_made_them(sharing: Machine, tmp_path: Path) -> None:
    source = Path(__file__).with_name("fsx.c")
    subprocess.run(["gcc", "-O1", "-static", "-o", tmp_path / "fsx", source], check=True)
    terminal = sharing("-virtfs", f"local,path={tmp_path},mount_tag=tag,security_model=mapped-file")
    for cache, seed in ("none", 1), ("mmap", 2), ("loose", 3):
        ask(terminal, MOUNT.format("tag", f",cache={cache}"))
        if cache == "none":  # Linux maps nothing to write there
            assert "records" in told(terminal, "cp /mnt/fsx /fsx; chmod +x /fsx; "
                                               "dd if=/mnt/fsx of=/mnt/y bs=7777")
        else:
            assert "is content" in told(terminal, f"/fsx /mnt/x{seed} 400 {seed}")
        ask(terminal, "umount /mnt")
    assert (tmp_path / "y").read_bytes() == (tmp_path / "fsx").read_bytes()


def commands(seed: int, number: int) -> str:
    """A script of random work in a folder; what each command answers goes to ../log."""
    rng = random.Random(seed)
    names = ["a", "b", "c", "d/a", "d/b", "d/e/a", "d", "d/e", "f", "g h", "ü"]
    lines = ["umask 022"]
    for turn in range(number):
        one, two = (f"'{name}'" for name in rng.sample(names, 2))
        mode, second, size = rng.choice((600, 644, 755, 400)), turn % 60, rng.randrange(20000)
        opening = (f"echo {turn} > {one}", f"echo {turn} >> {one}", f"cat {one}",
                   f"cp {one} {two}", f"cat {one} > {two}", f"truncate -s {size} {one}",
                   f"dd if={one} of={two} bs=100 seek={size % 50} count=9 conv=notrunc")
        others = (f"mkdir {one}", f"mkdir -p {one}", f"rm {one}", f"rmdir {one}", f"rm -r {one}",
                  f"mv {one} {two}", f"ln {one} {two}", f"ln -s {rng.choice(names)!r} {one}",
                  f"chmod {mode} {one}", f"ls -a {one}", f"readlink {one}", f"mkfifo {one}",
                  f"touch -d '2001-02-03 04:05:{second:02}' {one}", f"stat -c '%a %F %h' {one}")
        line = rng.choice(opening + others)
        if line in opening:  # a FIFO would wait for its other end
            lines.append("find . -type p -exec rm {} +")
        lines.append(f"{{ {line}; }} < /dev/null >> ../log 2> /dev/null; echo $? >> ../log")
    return "\n".join(lines) + "\n"


def tree(folder: Path) -> dict[str, object]:
    """All that a folder holds."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = os.readlink(path) if path.is_symlink() else (
            path.read_bytes() if path.is_file() else b"")  # fmt: skip
        links = 0 if path.is_dir() else status.st_nlink
        found[str(path.relative_to(folder))] = (status.st_mode, links, data)
    return found


def test_random_work_leaves_what_it_leaves_on_a_local_disk(sharing: Machine, tmp_path: Path
                                                           ) -> None:  # fmt: skip
    busybox = guest.cache_folder() / guest.BUSYBOX
    tools = tmp_path / "tools"
    tools.mkdir()
    subprocess.run([busybox, "--install", "-s", tools], check=True)
    for place in ("host", "guest"):
        (tmp_path / place / "work").mkdir(parents=True)
        (tmp_path / place / "script").write_text(commands(5, 700))
    subprocess.run([busybox, "sh", "../script"], cwd=tmp_path / "host" / "work", check=False,
                   env={"PATH": str(tools)})  # fmt: skip
    share = f"local,path={tmp_path / 'guest'},mount_tag=tag,security_model=passthrough"
    terminal = sharing("-virtfs", share)
    ask(terminal, MOUNT.format("tag", ""))
    terminal.type("cd /mnt/work; sh ../script; cd /; umount /mnt; poweroff\n")
    assert terminal.wait(BOOT_SECONDS) == 0
    logs = [(tmp_path / place / "log").read_bytes().splitlines() for place in ("host", "guest")]
    assert logs[0] == logs[1]
    assert tree(tmp_path / "host" / "work") == tree(tmp_path / "guest" / "work")


@pytest.mark.parametrize("pair", ["ours-with-qemus-helper", "qemu-with-our-helper"])
def test_emulator_and_helper_of_different_makers(sharing: Machine, tmp_path: Path, pair: str
                                                 ) -> None:  # fmt: skip
    shared, name = tmp_path / "shared", tmp_path / "socket"
    shared.mkdir()
    program = QEMU_HELPER if pair.startswith("ours") else OUR_HELPER
    owner = ["-u", str(os.getuid()), "-g", str(os.getgid())]
    process = subprocess.Popen([*program, "-p", shared, "-s", name, *owner, "-n"],
                               env={**os.environ, "PYTHONPATH": SOURCES})  # fmt: skip
    try:
        while not name.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        other = {} if pair.startswith("ours") else {"program": ("qemu-system-x86_64",)}
        terminal = sharing("-virtfs", f"proxy,socket={name},mount_tag=tag", **other)
        ask(terminal, MOUNT.format("tag", ""))
        ask(terminal, "cd /mnt; mkdir d; echo text > d/f; chown 12:34 d/f; chmod 640 d/f; "
                      "ln -s f d/s; mknod p p; mv d e; echo more >> e/f")
        shown = told(terminal, "stat -c '%n:%a:%u:%g:%F;' e/* p; cat e/s; cd /; umount /mnt")
        for line in ("e/f:640:12:34:regular file;", "e/s:777:", "p:644:", "text\nmore"):
            assert line in shown
        terminal.type("poweroff\n")
        terminal.wait(ANSWER_SECONDS)
        assert process.wait(ANSWER_SECONDS) == 0
    finally:
        process.kill()
    assert (shared / "e" / "f").read_text() == "text\nmore\n" and (shared / "p").is_fifo()
    found = (shared / "e" / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_mode) == (12, 34, 0o100640)
