"""The main story: the distribution's kernel boots to a shell, answers, and powers off."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from boot.terminal import ANSWER_SECONDS, PROMPT, Terminal
from pytcg.cli import guest
from pytcg.machine.linux import parse_kernel, place

pytestmark = pytest.mark.boot


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
