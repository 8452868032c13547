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


def set_add_fd(options: Options, text: str) -> None:
    """-add-fd set=N,fd=M: a descriptor that was handed over, for /dev/fdset/N."""
    values = properties(text, "fd")
    only("-add-fd", values, ["set", "fd", "opaque"])
    for name in ("fd", "set"):
        if not values.get(name, "").isdecimal():
            raise OptionError(f"-add-fd {text}: Parameter '{name}' expects a non-negative number")
    fd = int(values["fd"])
    if fd <= 2:
        raise OptionError(f"-add-fd {text}: fd cannot be a standard I/O stream")
    try:
        os.set_inheritable(fd, False)
    except OSError:
        raise OptionError(f"-add-fd {text}: fd is not valid or already in use") from None
    options.fd_sets.setdefault(int(values["set"]), []).append(fd)


def set_audiodev(options: Options, text: str) -> None:
    """-audiodev none,id=NAME: sound that nobody hears, which is all there is."""
    from pytcg.block.options import parse_keyval
    from pytcg.cli.system.drive_options import json_values

    del options
    values = (json_values("-audiodev", text) if text.startswith("{")
              else parse_keyval(text, implied="driver"))  # fmt: skip
    driver = values.get("driver", "")
    if driver != "none":
        raise OptionError(f"-audiodev {text}: Parameter 'driver' does not accept value '{driver}'")
    if not values.get("id"):
        raise OptionError(f"-audiodev {text}: Parameter 'id' is missing")


def set_daemonize(options: Options, text: str) -> None:
    """-daemonize."""
    del text
    options.daemonize = True


def set_sandbox(options: Options, text: str) -> None:
    """-sandbox: as a QEMU that was built without seccomp."""
    del options
    values = properties(text, "enable")
    if _boolean("-sandbox", "enable", values.get("enable", "off")):
        raise OptionError("-sandbox support is not enabled in this emulator")


def detach(options: Options) -> None:
    """Go on as a daemon: the caller's process ends when the machine is there, or can't be."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else 1)
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(0o027)

    def ready() -> None:
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.close(null)
        os.write(writer, b"\0")
        os.close(writer)

    options.ready = ready


def speak(options: Options) -> None:
    """Messages begin as -msg wants them."""
    complain.time = options.message_time
    complain.guest = options.name if options.message_name else ""
