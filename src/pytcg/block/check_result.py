"""What a consistency check finds."""

from __future__ import annotations

from pytcg.block.device import BlockError


class CheckError(BlockError):
    """The check can't go on, and why."""


class CheckResult:
    """Counts in QEMU's ImageCheck terms."""

    def __init__(self) -> None:
        self.check_errors = 0
        self.corruptions = 0
        self.leaks = 0
        self.corruptions_fixed = 0
        self.leaks_fixed = 0
        self.image_end_offset = 0
        self.total_clusters = 0
        self.allocated_clusters = 0
        self.fragmented_clusters = 0
        self.compressed_clusters = 0

    def copy(self) -> CheckResult:
        """The same counts, to go on from."""
        other = CheckResult()
        other.__dict__.update(self.__dict__)
        return other

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not (self.corruptions or self.leaks or self.check_errors)
