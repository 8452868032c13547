"""LPT1 to LPT3: each with a port if it has a chardev."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pytcg.chardev.base import Chardev
from pytcg.hw.core.parallel import ParallelPort, Reg
from pytcg.machine import pc_map as at
from pytcg.machine.acpi import hardware
from pytcg.machine.board.backplane import Backplane


class ParallelLink(NamedTuple):
    """A port and what it prints to."""

    port: hardware.ParallelPort
    chip: ParallelPort
    chardev: Chardev


def make_parallel_ports(board: Backplane, chardevs: Sequence[Chardev | None]
                        ) -> list[ParallelLink]:  # fmt: skip
    """The ports that have a chardev."""
    return [
        attach_parallel_port(board, port, chardev)
        for port, chardev in zip(at.LPT_PORTS, chardevs, strict=False)
        if chardev is not None
    ]


def attach_parallel_port(board: Backplane, port: hardware.ParallelPort, chardev: Chardev
                         ) -> ParallelLink:  # fmt: skip
    """A port that sends to a chardev which is still to be connected."""
    chip = ParallelPort(chardev.write, chardev.full)
    board.connect_irq(chip.irq, port.irq)
    board.ports.attach(board.add(chip), port.base, count=Reg.CONTROL + 1)
    return ParallelLink(port, chip, chardev)
