"""Options of the process itself: what managers of machines give on every command line."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from pytcg.cli.system.messages import complain
from pytcg.cli.system.option_values import OptionError, only, properties

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options

ON = ("on", "yes", "true", "y")
OFF = ("off", "no", "false", "n")


def set_no_user_config(options: Options, text: str) -> None:
    """There are no configuration files that are read unasked."""
    del options, text


def set_message(options: Options, text: str) -> None:
    """-msg timestamp=on,guest-name=on: what stands in front of messages."""
    values = properties(text, "timestamp")
    only("-msg", values, ["timestamp", "guest-name"])
    options.message_time = _boolean("-msg", "timestamp", values.get("timestamp", "off"))
    options.message_name = _boolean("-msg", "guest-name", values.get("guest-name", "off"))


def set_overcommit(options: Options, text: str) -> None:
    """-overcommit: memory is the host's to page, and the guest's HLT sleeps."""
    del options
    values = properties(text, "mem-lock")
    only("-overcommit", values, ["mem-lock", "cpu-pm"])
    for name, value in values.items():
        if _boolean("-overcommit", name, value):
            raise OptionError(f"-overcommit {name}={value}: not supported")


def set_pid_file(options: Options, text: str) -> None:
    options.pid_file = text


def set_name(options: Options, text: str) -> None:
    """-name [guest=]NAME[,process=NAME][,debug-threads=on]"""
    values = properties(text, "guest")
    only("-name", values, ["guest", "process", "debug-threads"])
    _boolean("-name", "debug-threads", values.get("debug-threads", "off"))
    options.name = values.get("guest", "")


def _boolean(option: str, name: str, value: str) -> bool:
    if value not in (*ON, *OFF):
        raise OptionError(f"{option}: Parameter '{name}' expects 'on' or 'off'")
    return value in ON


def write_pid_file(path: str, stack: ExitStack) -> None:
    """The process's number in a file that goes with it; OSError."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")

    def remove() -> None:
        with suppress(OSError):
            os.unlink(path)

    stack.callback(remove)


def speak(options: Options) -> None:
    """Messages begin as -msg wants them."""
    complain.time = options.message_time
    complain.guest = options.name if options.message_name else ""
