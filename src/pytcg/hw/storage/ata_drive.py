"""A hard disk on an IDE cable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytcg.hw.state import State
from pytcg.hw.storage.ata import Abort, AtaDisk, Direction, Result, Taskfile, Transfer
from pytcg.hw.storage.ide_drive import IdeDrive


class AtaDrive(IdeDrive):
    """The registers in front of an `AtaDisk`."""

    signature = (0, 0)

    def __init__(self, disk: AtaDisk) -> None:
        self.disk = disk
        super().__init__()

    def reset(self) -> None:
        self.disk.reset()
        super().reset()

    def execute(self, task: Taskfile) -> None:
        try:
            transfer = self.disk.start(task)
        except Abort as refusal:
            self.abort(refusal.error)
            return
        if transfer.direction is not Direction.OUT:
            self._run(transfer, b"")
        elif transfer.dma:
            self.dma_out(transfer.length, partial(self._run, transfer))
        else:
            self.data_out(transfer.length, transfer.block, partial(self._run, transfer))

    def continuation(self, task: Taskfile, *, out: bool) -> Callable[[bytes], None]:
        if out:
            return partial(self._run, self.disk.start(task))
        return lambda _: self.finish()

    def state(self) -> State:
        return super().state() | {"disk": self.disk.state()}

    def restore(self, state: State) -> None:
        self.disk.restore(state["disk"])
        super().restore(state)

    def _run(self, transfer: Transfer, data: bytes) -> None:
        self.busy()
        transfer.run(data, partial(self._ended, self.generation, transfer))

    def _ended(self, generation: int, transfer: Transfer, result: Result) -> None:
        if generation != self.generation:
            return
        self.show(count=result.count, lba=result.lba)
        if result.error or transfer.direction is not Direction.IN:
            self.finish(result.error)
        elif transfer.dma:
            self.dma_in(result.data, lambda _: self.finish())
        else:
            self.data_in(result.data, transfer.block)
