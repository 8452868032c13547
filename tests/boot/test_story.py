"""The main story: the distribution's kernel boots to a shell, answers, and powers off."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytcg.cli import guest
from pytcg.machine.linux import parse_kernel, place

REPOSITORY = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(REPOSITORY / root) for root in ("src", "frontends", "backends"))
PROMPT = rb"# (?:\x1b\[6n)?$"
BOOT_SECONDS = 300  # an empty cache, both cores busy
ANSWER_SECONDS = 60

pytestmark = pytest.mark.boot


class Terminal:
    """The program on a pseudo-terminal, and someone who reads and types."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytcg.cli.system", *arguments],
            env={**os.environ, "PYTHONPATH": SOURCES},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.screen = b""

    def read(self, seconds: float) -> bool:
        """Add what comes to the screen; False when nothing did, or no more will."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the program is gone
            return False
        self.screen += data
        return bool(data)

    def wait_for(self, pattern: bytes, seconds: float) -> bytes:
        """Read until the pattern stands on the screen; returns the screen and clears it."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.screen.rstrip(b"\r\n"), re.MULTILINE):
            alive = self.process.poll() is None
            assert alive or self.read(0), f"it ended: {self.tail()}"
            assert time.monotonic() < end, f"no {pattern!r}: {self.tail()}"
            self.read(0.2)
        seen, self.screen = self.screen, b""
        return seen

    def tail(self) -> str:
        """The end of the screen, for messages."""
        return self.screen[-2000:].decode(errors="replace")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def wait(self, seconds: float) -> int:
        """The program's exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        return self.process.wait(1)

    def close(self) -> None:
        """Leave nothing running."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def files() -> Path:
    """Kernel and initramfs, fetched if they are not there."""
    cache = guest.cache_folder()
    guest.ensure(cache)
    return cache


@pytest.fixture
def shell(files: Path) -> Iterator[Terminal]:
    """A guest at its first prompt."""
    terminal = Terminal(
        "-m", "256", "-nographic", "-no-reboot",
        "-kernel", str(files / guest.KERNEL),
        "-initrd", str(files / guest.INITRAMFS),
        "-append", "console=ttyS0 quiet",
    )  # fmt: skip
    terminal.wait_for(PROMPT, BOOT_SECONDS)
    yield terminal
    terminal.close()


def test_the_distributions_kernel_is_understood(files: Path) -> None:
    path = str(files / guest.KERNEL)
    kernel = parse_kernel(path, (files / guest.KERNEL).read_bytes())
    assert kernel.is_64_bit and kernel.relocatable
    assert kernel.command_line_max >= 255
    placement = place(kernel, (files / guest.INITRAMFS).stat().st_size, 256 << 20)
    assert placement.kernel == kernel.preferred_address
    assert placement.initrd >= placement.kernel + kernel.init_size


def test_boot_to_a_prompt_type_and_power_off(shell: Terminal) -> None:
    shell.type("echo $((6*7))\n")
    assert re.search(rb"^42\r*$", shell.wait_for(PROMPT, ANSWER_SECONDS), re.MULTILINE)
    shell.type("cat /proc/interrupts; tty\n")
    answer = shell.wait_for(PROMPT, ANSWER_SECONDS)
    assert b"/dev/ttyS0" in answer
    assert b"ttyS0" in answer.replace(b"/dev/ttyS0", b"")
    shell.type("poweroff\n")
    assert shell.wait(ANSWER_SECONDS) == 0


def test_control_c_goes_to_the_guest_and_control_a_x_quits(shell: Terminal) -> None:
    shell.type("sleep 1000\n")
    time.sleep(1)
    shell.type("\x03")
    shell.wait_for(PROMPT, ANSWER_SECONDS)
    shell.type("\x01h")
    shell.wait_for(rb"C-a x +exit emulator", ANSWER_SECONDS)
    shell.type("\x01x")
    assert shell.wait(ANSWER_SECONDS) == 0


def test_reboot_ends_it_with_no_reboot(shell: Terminal) -> None:
    shell.type("reboot\n")
    assert shell.wait(ANSWER_SECONDS) == 0
