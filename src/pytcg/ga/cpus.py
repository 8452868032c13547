"""Processors and memory blocks: which there are, and which are in use."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import CommandError, command, failed, named

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

CPUS = "/sys/devices/system/cpu/"
MEMORY = "/sys/devices/system/memory/"
TIMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest",
         "guestnice")  # of /proc/stat  # fmt: skip


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _numbers(folder: str, stem: str) -> list[int]:
    """Of the entries of a folder that are a stem and a number; none if it isn't there."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = (re.fullmatch(stem + r"(\d+)", name) for name in names)
    return [int(match[1]) for match in found if match]


@command("guest-get-vcpus")
def get_vcpus(agent: Agent) -> list[dict[str, Any]]:
    """Processors; one that has no switch is always on."""
    rows = []
    for number in _numbers(agent.path(CPUS), "cpu"):
        path = agent.path(f"{CPUS}cpu{number}/online")
        can = os.path.exists(path)
        online = not can or _read(path) == "1"
        rows.append({"logical-id": number, "online": online, "can-offline": can})
    return rows


@command("guest-set-vcpus",
         {"vcpus": [{"logical-id": int, "online": bool, "can-offline?": bool}]})  # fmt: skip
def set_vcpus(agent: Agent, vcpus: list[dict[str, Any]]) -> int:
    """Switch some on or off, up to the first that can't be; how many."""
    done = 0
    for row in vcpus:
        try:
            _switch(agent, row["logical-id"], online=row["online"])
        except CommandError:
            if not done:
                raise
            break
        done += 1
    return done


def _switch(agent: Agent, number: int, *, online: bool) -> None:
    folder = f"{CPUS}cpu{number}/"
    if not os.path.isdir(agent.path(folder)):
        raise CommandError(f'open("{folder}"): No such file or directory')
    path = agent.path(folder + "online")
    if not os.path.exists(path):
        if not online:
            raise CommandError(f"logical processor #{number} can't be offlined")
        return
    try:
        if (_read(path) == "1") != online:
            _write(path, str(int(online)))
    except OSError as error:
        raise failed(f'write("{folder}online")', error) from error


@command("guest-get-memory-blocks")
def get_memory_blocks(agent: Agent) -> list[dict[str, Any]]:
    """Blocks of memory."""
    rows = []
    for number in _numbers(agent.path(MEMORY), "memory"):
        folder = agent.path(f"{MEMORY}memory{number}/")
        removable = os.path.exists(folder + "removable") and _read(folder + "removable") != "0"
        rows.append({"phys-index": number, "online": _read(folder + "state") == "online",
                     "can-offline": removable})  # fmt: skip
    return rows


@command("guest-get-memory-block-info")
def memory_block_info(agent: Agent) -> dict[str, int]:
    """Bytes of one block."""
    path = MEMORY + "block_size_bytes"
    try:
        return {"size": int(_read(agent.path(path)), 16)}
    except OSError as error:
        raise failed(f'open("{path}")', error) from error


@command("guest-set-memory-blocks",
         {"mem-blks": [{"phys-index": int, "online": bool, "can-offline?": bool}]})  # fmt: skip
def set_memory_blocks(agent: Agent, mem_blks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Switch some on or off; what became of each."""
    return [_switch_block(agent, row["phys-index"], online=row["online"]) for row in mem_blks]


def _switch_block(agent: Agent, number: int, *, online: bool) -> dict[str, Any]:
    path = agent.path(f"{MEMORY}memory{number}/state")
    wanted = "online" if online else "offline"
    answer: dict[str, Any] = {"phys-index": number, "response": "success"}
    try:
        if _read(path) != wanted:
            _write(path, wanted)
    except FileNotFoundError:
        answer |= {"response": "not-found", "error-code": errno.ENOENT}
    except OSError as error:
        answer |= {"response": "operation-failed", "error-code": error.errno}
    return answer


@command("guest-get-cpustats")
def cpu_stats(agent: Agent) -> list[dict[str, Any]]:
    """What each processor spent its time on, in milliseconds."""
    tick = os.sysconf("SC_CLK_TCK")
    rows = []
    with open(agent.path("/proc/stat"), encoding="ascii") as file:
        for line in file:
            words = line.split()
            match = re.fullmatch(r"cpu(\d+)", words[0]) if words else None
            if match:
                times = (int(word) * 1000 // tick for word in words[1:])
                rows.append({"type": "linux", "cpu": int(match[1]), **named(TIMES, times)})
    return rows
