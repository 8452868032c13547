"""A hard disk on an IDE cable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytcg.hw.pci.device import DmaMap
from pytcg.hw.state import State
from pytcg.hw.storage.ata import Abort, AtaDisk, Direction, Result, Taskfile, Transfer
from pytcg.hw.storage.ide_drive import DmaState, IdeDrive, Then


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
        if transfer.exchange is not None and transfer.dma:
            self.dma_wait(self._waiting(transfer))
        elif transfer.direction is not Direction.OUT:
            self._run(transfer, b"")
        elif transfer.dma:
            self.dma_out(transfer.length, partial(self._run, transfer))
        else:
            self.data_out(transfer.length, transfer.block, partial(self._run, transfer))

    def _waiting(self, transfer: Transfer) -> DmaState:
        """Blocks of the medium and the bus master: best if they meet."""
        into = transfer.direction is Direction.IN
        return DmaState(None, transfer.length, partial(self._run, transfer),
                        exchange=partial(self._exchange, transfer),
                        fetch=partial(self._run, transfer, b"") if into else None)  # fmt: skip

    def _exchange(self, transfer: Transfer, memory: DmaMap) -> Then | None:
        assert transfer.exchange is not None
        result = transfer.exchange(memory.views)
        if result is None:
            return None
        if transfer.direction is Direction.IN:
            memory.stored()
        return lambda _: self._show_end(result)

    def fetching(self, task: Taskfile) -> DmaState:
        return self._waiting(self.disk.start(task))

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
        if result.error or transfer.direction is not Direction.IN:
            self._show_end(result)
            return
        self.show(count=result.count, lba=result.lba)
        if transfer.dma:
            self.dma_in(result.data, lambda _: self.finish())
        else:
            self.data_in(result.data, transfer.block)

    def _show_end(self, result: Result) -> None:
        self.show(count=result.count, lba=result.lba)
        self.finish(result.error)
