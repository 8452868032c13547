"""Character devices of the command line, and what stands on them: serial ports, monitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.chardev.base import Chardev, ChardevError, Context
from pytcg.chardev.mux import MuxPort
from pytcg.chardev.registry import Chardevs
from pytcg.cli.system.options import parallel_ports, serial_ports

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.monitor.machine import Machine


def open_chardevs(options: Options, context: Context) -> Chardevs:
    """Those that have an id; ChardevError. A mux may be named before what it stands on."""
    chardevs = Chardevs(context)
    try:
        for option in sorted(options.chardevs, key=lambda option: option.kind == "mux"):
            try:
                chardevs.create(option.kind, option.name, _from_sets(options, option.values))
            except ChardevError as error:
                raise ChardevError(f"-chardev {option.text}: {error}") from None
    except BaseException:
        chardevs.close()
        raise
    return chardevs


def _from_sets(options: Options, values: dict[str, str]) -> dict[str, str]:
    """/dev/fdset/N as the descriptor that may be written; ChardevError."""
    import fcntl
    import os

    path = values.get("path", "")
    if not path.startswith("/dev/fdset/"):
        return values
    number = path.removeprefix("/dev/fdset/")
    for fd in options.fd_sets.get(int(number) if number.isdecimal() else -1, ()):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            return {**values, "path": f"/dev/fd/{fd}"}
    raise ChardevError(f"Could not open '{path}': No such file or directory")


def open_serials(options: Options, chardevs: Chardevs) -> list[Chardev | None]:
    """What the serial ports are connected to; None for a port that is not there."""
    return [open_for(chardevs, "-serial", spec, f"serial{number}")
            for number, spec in enumerate(serial_ports(options))]  # fmt: skip


def open_parallels(options: Options, chardevs: Chardevs) -> list[Chardev | None]:
    """The same of the parallel ports."""
    return [open_for(chardevs, "-parallel", spec, f"parallel{number}")
            for number, spec in enumerate(parallel_ports(options))]  # fmt: skip


def open_for(chardevs: Chardevs, option: str, spec: str, label: str) -> Chardev | None:
    """What an option names; ChardevError names the option."""
    try:
        return chardevs.open(spec, label)
    except ChardevError as error:
        raise ChardevError(f"{option} {spec}: {error}") from None


def start_monitors(options: Options, machine: Machine) -> None:
    """-qmp, -mon, -monitor, and the one behind the Ctrl-A c of a `mon:` form."""
    muxes = [f"serial{number}" for number, spec in enumerate(serial_ports(options))
             if spec.startswith("mon:")]  # fmt: skip
    if not options.monitors and not muxes:
        return
    from functools import partial

    from pytcg.monitor.commands import run_command
    from pytcg.monitor.devices import watch_devices
    from pytcg.monitor.human.session import HumanSession
    from pytcg.monitor.qmp import QmpSession

    watch_devices(machine)
    qmp = partial(run_command, machine)
    for name in muxes:
        HumanSession(machine, machine.chardevs.take(name), qmp).start(focus=False)
    for number, monitor in enumerate(options.monitors):
        option = "-mon" if monitor.chardev.startswith("chardev:") else "-monitor"
        chardev = open_for(machine.chardevs, option, monitor.chardev, f"compat_monitor{number}")
        if chardev is not None and not monitor.control:
            mux = isinstance(chardev, MuxPort)  # where a device has the keys already
            HumanSession(machine, chardev, qmp).start(focus=not mux)
        elif chardev is not None:
            QmpSession(machine, chardev, pretty=monitor.pretty).start()
