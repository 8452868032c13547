"""The guest's run, its keys, its screen: commands that are QMP's under other names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.chardev.base import ChardevError
from pytcg.chardev.spec import parse_chardev
from pytcg.monitor.characters import create
from pytcg.monitor.command import CommandError
from pytcg.monitor.human.memory import evaluate
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError, number


def _plain(names: str, help: str, command: str) -> HumanCommand:
    """A command without arguments."""

    def run(shell: Shell, words: list[str]) -> str:
        del words
        shell.qmp(command)
        return ""

    return HumanCommand(names, "", help, run)


def send_keys(shell: Shell, words: list[str]) -> str:
    """sendkey."""
    from pytcg.ui.keys import is_key

    names = [{"<": "less"}.get(key, key) for key in words[0].split("-")]
    for key in names:
        if not is_key(key):
            return f"invalid parameter: {key}\n"
    keys = [{"type": "qcode", "data": key} for key in names]
    hold = {"hold_time": number(words[1])} if len(words) > 1 else {}
    shell.qmp("send-key", keys=keys, **hold)
    return ""


def dump_screen(shell: Shell, words: list[str]) -> str:
    """screendump."""
    kind = {}
    if "-f" in words:
        at = words.index("-f")
        if len(words) <= at + 1:
            raise UsageError("-f: format expected")
        kind = {"format": words[at + 1]}
        words = words[:at] + words[at + 2 :]
    if not words:
        raise UsageError("screendump: filename expected")
    shell.qmp("screendump", filename=words[0], **kind)
    return ""


def save_memory(command: str) -> Callable[[Shell, list[str]], str]:
    """pmemsave and memsave: an address, a size, a file."""

    def run(shell: Shell, words: list[str]) -> str:
        address, size = (evaluate(shell, word) for word in words[:2])
        shell.qmp(command, val=address, size=size, filename=words[2])
        return ""

    return run


def read_ring(shell: Shell, words: list[str]) -> str:
    """ringbuf_read."""
    return f"{shell.qmp('ringbuf-read', device=words[0], size=number(words[1]))}\n"


def write_ring(shell: Shell, words: list[str]) -> str:
    """ringbuf_write."""
    shell.qmp("ringbuf-write", device=words[0], data=" ".join(words[1:]))
    return ""


def add_chardev(shell: Shell, words: list[str]) -> str:
    """chardev-add: what -chardev takes."""
    try:
        kind, name, values = parse_chardev(words[0])
    except ChardevError as error:
        raise CommandError(str(error)) from None
    create(shell.machine, kind, name, values)
    return ""


def remove_chardev(shell: Shell, words: list[str]) -> str:
    """chardev-remove."""
    shell.qmp("chardev-remove", id=words[0])
    return ""


def send_break(shell: Shell, words: list[str]) -> str:
    """chardev-send-break."""
    shell.qmp("chardev-send-break", id=words[0])
    return ""


def serve_debugger(shell: Shell, words: list[str]) -> str:
    """gdbserver."""
    serve = shell.machine.serve_gdb
    return serve(words[0] if words else "tcp::1234") if serve is not None else ""


COMMANDS: Final = (
    _plain("cont|c", "resume emulation", "cont"),
    _plain("nmi", "inject an NMI", "inject-nmi"),
    _plain("quit|q", "quit the emulator", "quit"),
    _plain("stop|s", "stop emulation", "stop"),
    _plain("system_powerdown", "send system power down event", "system_powerdown"),
    _plain("system_reset", "reset the system", "system_reset"),
    HumanCommand("sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1',"
                 " default hold time=100 ms)", send_keys, 1, 2),
    HumanCommand("gdbserver", "[device]", "start gdbserver on given device (default 'tcp::1234'),"
                 " stop with 'none'", serve_debugger, 0, 1),
    HumanCommand("screendump", "filename [-f format]", "save screen", dump_screen, 0, 3),
    HumanCommand("pmemsave", "addr size file", "save to disk physical memory dump starting at"
                 " 'addr' of size 'size'", save_memory("pmemsave"), 3, 3),
    HumanCommand("memsave", "addr size file", "save to disk virtual memory dump starting at"
                 " 'addr' of size 'size'", save_memory("memsave"), 3, 3),
    HumanCommand("ringbuf_read", "device size", "Read from a ring buffer character device",
                 read_ring, 2, 2),
    HumanCommand("ringbuf_write", "device data", "Write to a ring buffer character device",
                 write_ring, 2, 99),
    HumanCommand("chardev-add", "args", "add chardev", add_chardev, 1, 1),
    HumanCommand("chardev-remove", "id", "remove chardev", remove_chardev, 1, 1),
    HumanCommand("chardev-send-break", "id", "send a break on chardev", send_break, 1, 1),
)  # fmt: skip
