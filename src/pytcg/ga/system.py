"""Time, names, versions; powering off and sleeping."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import CommandError, command, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytcg.ga.agent import Agent

SHUTDOWN = {"powerdown": "-P", "halt": "-H", "reboot": "-r"}
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
OS_FIELDS = ("id", "name", "pretty-name", "version", "version-id", "variant", "variant-id")
SYSTEMD = {"disk": "hibernate", "ram": "suspend", "hybrid": "hybrid-sleep"}
PM_UTILS = {"disk": "hibernate", "ram": "suspend", "hybrid": "suspend-hybrid"}
KERNEL = {"disk": "disk", "ram": "mem"}
MOST_NANOSECONDS = (1 << 63) - 1


def run(agent: Agent, words: Sequence[str], stdin: bytes = b"") -> int | None:
    """A program's exit status; None if it isn't there. Its output goes nowhere."""
    try:
        return subprocess.run([agent.path(words[0]), *words[1:]], input=stdin, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except OSError:
        return None


@command("guest-get-time")
def get_time(agent: Agent) -> int:
    """Nanoseconds since 1970."""
    del agent
    return time.time_ns()


@command("guest-set-time", {"time?": int})
def set_time(agent: Agent, time: int | None = None) -> None:
    """Set the clock, or take the hardware clock's time."""
    if time is not None:
        _set_clock(time)
    if run(agent, ("/sbin/hwclock", "-s" if time is None else "-w")) != 0:
        raise CommandError("hwclock failed to set hardware clock to system time")


def _set_clock(nanoseconds: int) -> None:
    try:
        time.clock_settime(time.CLOCK_REALTIME, nanoseconds / 1e9)
    except OSError as error:
        raise failed("Failed to set time to guest", error) from error


@command("guest-shutdown", {"mode?": str}, answers=False)
def shutdown(agent: Agent, mode: str = "powerdown") -> None:
    """Power off, halt or reboot; no answer comes."""
    if mode not in SHUTDOWN:
        raise CommandError("mode is invalid (valid values are: halt|powerdown|reboot")
    words = ("/sbin/shutdown", "-h", SHUTDOWN[mode], "+0", "hypervisor initiated shutdown")
    if run(agent, words) != 0:
        raise CommandError("child process has failed to shutdown")


@command("guest-suspend-disk", answers=False)
def suspend_disk(agent: Agent) -> None:
    """Sleep with memory on disk."""
    _suspend(agent, "disk")


@command("guest-suspend-ram", answers=False)
def suspend_ram(agent: Agent) -> None:
    """Sleep with memory powered."""
    _suspend(agent, "ram")


@command("guest-suspend-hybrid", answers=False)
def suspend_hybrid(agent: Agent) -> None:
    """Both."""
    _suspend(agent, "hybrid")


def _suspend(agent: Agent, mode: str) -> None:
    """By systemd, else by pm-utils, else by the kernel itself."""
    systemctl, known = "/usr/bin/systemctl", 3  # a unit that is there and does not run
    if (run(agent, (systemctl, "status", f"{SYSTEMD[mode]}.target")) == known
            and run(agent, (systemctl, SYSTEMD[mode])) == 0):  # fmt: skip
        return
    if (run(agent, ("/usr/bin/pm-is-supported", f"--{PM_UTILS[mode]}")) == 0
            and run(agent, (f"/usr/sbin/pm-{PM_UTILS[mode]}",)) == 0):  # fmt: skip
        return
    if mode not in KERNEL:
        raise CommandError("unknown guest suspend mode")
    state = agent.path("/sys/power/state")
    try:
        with open(state, "r+", encoding="ascii") as file:
            if KERNEL[mode] in file.read().split():
                file.seek(0)
                file.write(KERNEL[mode])
                return
    except OSError as error:
        raise failed(f"couldn't open/write {state}", error) from error
    raise CommandError("the requested suspend mode is not supported by the guest")


@command("guest-get-host-name")
def host_name(agent: Agent) -> dict[str, str]:
    """The guest's name for itself."""
    del agent
    return {"host-name": os.uname().nodename}


@command("guest-get-timezone")
def timezone(agent: Agent) -> dict[str, Any]:
    """Name and seconds east of UTC."""
    del agent
    now = time.localtime()
    return {"zone": now.tm_zone, "offset": now.tm_gmtoff}


@command("guest-get-osinfo")
def os_info(agent: Agent) -> dict[str, str]:
    """Kernel and distribution."""
    uname = os.uname()
    found = {"kernel-release": uname.release, "kernel-version": uname.version,
             "machine": uname.machine}  # fmt: skip
    release = _release(agent)
    for name in OS_FIELDS:
        value = release.get(name.upper().replace("-", "_"))
        if value is not None:
            found[name] = value
    return found


def _release(agent: Agent) -> dict[str, str]:
    import shlex

    for name in OS_RELEASE:
        try:
            with open(agent.path(name), encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        values = {}
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                try:
                    values[key.strip()] = "".join(shlex.split(value))
                except ValueError:
                    continue
        return values
    return {}
