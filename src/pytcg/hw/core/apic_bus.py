"""The messages between interrupt controllers, and who they reach (SDM vol. 3, 11.6)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol


class DeliveryMode(IntEnum):
    """ICR, LVT and redirection-entry delivery modes."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    RESERVED = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Trigger(IntEnum):
    """Trigger mode of an interrupt."""

    EDGE = 0
    LEVEL = 1


class Shorthand(IntEnum):
    """ICR destination shorthand."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


BROADCAST = 0xFF
X2APIC_BROADCAST = 0xFFFF_FFFF


class Destination(NamedTuple):
    """Who a message is for: an APIC ID, or an MDA that each APIC compares with its LDR."""

    id: int
    logical: bool = False
    shorthand: Shorthand = Shorthand.NONE


class Receiver(Protocol):
    """A local APIC as the bus sees it."""

    def accepts(self, destination: Destination) -> bool: ...

    def priority(self) -> int: ...

    def receive(self, mode: DeliveryMode, vector: int, trigger: Trigger) -> None: ...


class ApicBus:
    """Hands messages to the local APICs of a board."""

    def __init__(self) -> None:
        self._apics: list[Receiver] = []

    def attach(self, apic: Receiver) -> None:
        self._apics.append(apic)

    def deliver(self, dest: Destination, mode: DeliveryMode, vector: int, trigger: Trigger) -> None:
        """A message from an I/O APIC or an MSI write, whose 8-bit ID may mean everyone."""
        if dest.id == BROADCAST:
            dest = dest._replace(id=X2APIC_BROADCAST)
        self._send([apic for apic in self._apics if apic.accepts(dest)], mode, vector, trigger)

    def send_ipi(
        self, sender: Receiver, dest: Destination, mode: DeliveryMode, vector: int, trigger: Trigger
    ) -> None:
        """An interprocessor interrupt, shorthands included."""
        match dest.shorthand:
            case Shorthand.SELF:
                targets = [sender]
            case Shorthand.ALL:
                targets = list(self._apics)
            case Shorthand.OTHERS:
                targets = [apic for apic in self._apics if apic is not sender]
            case _:
                targets = [apic for apic in self._apics if apic.accepts(dest)]
        self._send(targets, mode, vector, trigger)

    def _send(
        self, targets: Sequence[Receiver], mode: DeliveryMode, vector: int, trigger: Trigger
    ) -> None:
        if mode is DeliveryMode.LOWEST_PRIORITY and targets:
            targets = [min(targets, key=lambda apic: apic.priority())]
        for apic in targets:
            apic.receive(mode, vector, trigger)
