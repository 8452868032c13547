"""Kernels told to do without their favourite hardware, crashes, pastes and impatient users."""

from __future__ import annotations

import hashlib
import time

import pytest

from boot.conftest import Boot
from boot.terminal import ANSWER_SECONDS, PROMPT, Terminal

pytestmark = pytest.mark.boot


def answer(shell: Terminal, command: str) -> bytes:
    """What a command prints, carriage returns left out."""
    shell.type(command + "\n")
    return shell.wait_for(PROMPT, ANSWER_SECONDS).replace(b"\r", b"")


@pytest.mark.parametrize(
    ("command_line", "source"),
    [
        ("nolapic noapic nokaslr", b"tsc"),  # 8259 and 8254 alone
        ("notsc lapic=notscdeadline nosmap nosmep", b"hpet"),
        ("notsc hpet=disable", b"acpi_pm"),
        ("acpi=off tsc=unstable nohz=off highres=off", b"refined-jiffies"),
    ],
)
def test_time_passes_without_the_favourite_hardware(
    boot: Boot, command_line: str, source: bytes
) -> None:
    shell = boot(f"quiet {command_line}")
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert b"\n" + source + b"\n" in answer(shell, f"cat {clock}")
    began = time.monotonic()
    assert b"woken" in answer(shell, "sleep 1; (sleep 1; echo woken) & wait").split(b"\n", 1)[1]
    assert 1.8 < time.monotonic() - began < 10


def test_a_panic_reboots_and_the_second_boot_works(boot: Boot) -> None:
    shell = boot("quiet panic=1")
    shell.type("echo c > /proc/sysrq-trigger\n")
    screen = shell.wait_for(PROMPT, ANSWER_SECONDS)
    assert b"Kernel panic - not syncing: sysrq triggered crash" in screen
    assert b"Rebooting in 1 seconds" in screen
    assert b"\n42\n" in answer(shell, "echo $((6*7))")
    shell.type("poweroff\n")
    assert shell.wait(ANSWER_SECONDS) == 0


def test_a_long_paste_loses_nothing(shell: Terminal) -> None:
    text = "".join(f"line {n:05} of what was pasted, all of it\n" for n in range(500))
    shell.type("cat > /tmp/pasted\n")
    time.sleep(1)
    shell.type(text + "\x04")
    shell.wait_for(PROMPT, ANSWER_SECONDS)
    digest = hashlib.md5(text.encode()).hexdigest().encode()
    assert digest in answer(shell, "md5sum /tmp/pasted")


def test_job_control(shell: Terminal) -> None:
    shell.type("sleep 1000\n")
    time.sleep(1)
    shell.type("\x1a")
    assert b"Stopped" in shell.wait_for(PROMPT, ANSWER_SECONDS)
    assert b"Running" in answer(shell, "bg; jobs")
    shell.type("fg\n")
    time.sleep(1)
    shell.type("\x03")
    shell.wait_for(PROMPT, ANSWER_SECONDS)
    assert b"sleep" not in answer(shell, "jobs").split(b"\n", 1)[1]
