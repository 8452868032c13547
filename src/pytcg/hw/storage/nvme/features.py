"""Features that SET FEATURES changes (NVMe 1.4, 5.21)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pytcg.hw.storage.nvme.command import Command, Failed, Status
from pytcg.hw.storage.nvme.identify import WARNING

SAVE: Final = 1 << 31
CHANGEABLE: Final = 1 << 2
NO_QUEUES: Final = 0xFFFF
UNDER: Final = 1 << 20  # the temperature's lower threshold


class Feature(IntEnum):
    """Feature identifiers."""

    ARBITRATION = 0x01
    POWER = 0x02
    TEMPERATURE = 0x04
    ERROR_RECOVERY = 0x05
    WRITE_CACHE = 0x06
    QUEUES = 0x07
    COALESCING = 0x08
    VECTOR = 0x09
    ATOMICITY = 0x0A
    EVENTS = 0x0B


FIXED: Final = (Feature.ATOMICITY,)


class Select(IntEnum):
    """What GET FEATURES asks for."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    CAPABILITIES = 3


class Features:
    """Their values; ``queues`` is the number of I/O queue pairs there are."""

    def __init__(self, queues: int, vectors: int, *, write_cache: bool) -> None:
        self._vectors = vectors
        count = queues - 1
        self._defaults = {
            Feature.ARBITRATION: 6, Feature.POWER: 0, Feature.TEMPERATURE: WARNING,
            Feature.ERROR_RECOVERY: 0, Feature.WRITE_CACHE: int(write_cache),
            Feature.QUEUES: count << 16 | count, Feature.COALESCING: 0, Feature.VECTOR: 0,
            Feature.ATOMICITY: 0, Feature.EVENTS: 0,
        }  # fmt: skip
        self.reset()

    def reset(self) -> None:
        """Every feature at its default."""
        self.values = dict(self._defaults)

    @property
    def write_cache(self) -> bool:
        """Whether writes may end before they are on stable storage."""
        return bool(self.values[Feature.WRITE_CACHE])

    def get(self, command: Command) -> int:
        """GET FEATURES; Failed."""
        feature, select = _known(command), command.cdw10 >> 8 & 7
        if select > Select.CAPABILITIES:
            raise Failed(Status.INVALID_FIELD)
        if select == Select.CAPABILITIES:
            return 0 if feature in FIXED else CHANGEABLE
        values = self.values if select == Select.CURRENT else self._defaults
        if feature is Feature.VECTOR:
            return self._vector(command) | values[feature]
        if feature is Feature.TEMPERATURE and command.cdw11 & UNDER:
            return 0
        return values[feature]

    def set(self, command: Command) -> int:
        """SET FEATURES: what the completion says; Failed."""
        feature, value = _known(command), command.cdw11
        if command.cdw10 & SAVE:
            raise Failed(Status.FEATURE_NOT_SAVEABLE)
        if feature in FIXED:
            raise Failed(Status.FEATURE_NOT_CHANGEABLE)
        if feature is Feature.QUEUES:  # as many as there are, whatever is asked for
            if NO_QUEUES in (value & 0xFFFF, value >> 16):
                raise Failed(Status.INVALID_FIELD)
            return self.values[feature]
        if feature is Feature.POWER and value & 0x1F:  # there is one state
            raise Failed(Status.INVALID_FIELD)
        if feature is Feature.VECTOR:
            self._vector(command)  # interrupts never coalesce: nothing to remember
        elif feature is not Feature.TEMPERATURE or not value & UNDER:
            self.values[feature] = value & 1 if feature is Feature.WRITE_CACHE else value
        return 0

    def _vector(self, command: Command) -> int:
        vector = command.cdw11 & 0xFFFF
        if vector >= self._vectors:
            raise Failed(Status.INVALID_FIELD)
        return vector

    def state(self) -> dict[str, int]:
        """Their values by number."""
        return {str(int(feature)): value for feature, value in self.values.items()}

    def restore(self, state: dict[str, int]) -> None:
        """What `state` gave."""
        self.values = {feature: state[str(int(feature))] for feature in self._defaults}


def _known(command: Command) -> Feature:
    try:
        return Feature(command.cdw10 & 0xFF)
    except ValueError:
        raise Failed(Status.INVALID_FIELD) from None
