"""-loadvm and -incoming: a machine that goes on where a saved one stopped."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pytcg.cli.system.option_values import OptionError, Options

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

DEFER: Final = "defer"


def set_loadvm(options: Options, text: str) -> None:
    """An internal snapshot's tag."""
    options.loadvm = text


def set_incoming(options: Options, text: str) -> None:
    """file:PATH, or `defer` for `migrate-incoming`."""
    if text != DEFER and not text.startswith("file:"):
        raise OptionError(f"-incoming {text}: unknown migration protocol: {text}")
    options.incoming = text


def prepare(options: Options, machine: Machine) -> None:
    """Have the state loaded once the board has been powered on."""
    if options.loadvm is not None:
        machine.runner.before_first_run = partial(_load_snapshot, machine, options.loadvm)
    elif options.incoming is not None and options.incoming != DEFER:
        machine.runner.before_first_run = partial(_load_file, machine, options.incoming)


def _load_file(machine: Machine, uri: str) -> None:
    from pytcg.monitor.saving import load_file

    load_file(machine, uri)
    machine.runner.arrived()


def _load_snapshot(machine: Machine, tag: str) -> None:
    from pytcg.machine.runner import MachineError
    from pytcg.monitor.command import CommandError
    from pytcg.monitor.saving import disks_of, load_snapshot

    try:
        load_snapshot(machine, disks_of(machine), tag)
    except CommandError as error:
        raise MachineError(f"-loadvm {tag}: {error}") from None
