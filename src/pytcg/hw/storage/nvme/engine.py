"""Queues at work: commands are fetched, run and completed (NVMe 1.4, 4.1 and 7.2).

Nobody can make it do without end: a submission queue is not looked at while it has as many commands
under way as it has places, nor while completions wait for room.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, load, save
from pytcg.hw.storage.nvme.command import (
    COMMAND_SIZE,
    COMPLETION_SIZE,
    DNR,
    Command,
    Failed,
    Status,
)
from pytcg.hw.storage.nvme.namespace import EVERY_NAMESPACE, FLUSH, Namespace
from pytcg.hw.storage.nvme.queues import CompletionQueue, SubmissionQueue

ADMIN: Final = 0
RETRY: Final = (Status.READ_ERROR, Status.WRITE_FAULT, Status.DATA_TRANSFER_ERROR)

End = Callable[[Status, int], None]
"""How a command ended: its status, and the completion's first double word."""


class Master(Protocol):
    """The card: its bus master and its interrupts."""

    def dma_read(self, address: int, length: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...

    def completed(self, queue: CompletionQueue) -> None:
        """An entry was added."""
        ...

    def fatal(self) -> None:
        """The queues can't be reached."""
        ...


class Engine:
    """The controller's queues. ``run_admin`` is set by whoever knows the admin commands."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.namespaces: dict[int, Namespace] = {}
        self.submission: dict[int, SubmissionQueue] = {}
        self.completion: dict[int, CompletionQueue] = {}
        self.run_admin: Callable[[Command, End], None] | None = None
        self.stopped = True
        self.generation = 0

    def reset(self) -> None:
        """CC.EN went down: what is under way is forgotten."""
        self.submission.clear()
        self.completion.clear()
        self.stopped = True
        self.generation += 1

    def start(self, submission: int, entries: int, completion: int, places: int) -> None:
        """The admin queues: addresses, numbers of entries."""
        queue = CompletionQueue(ADMIN, completion, places)
        self.completion[ADMIN] = queue
        self.submission[ADMIN] = SubmissionQueue(ADMIN, submission, entries, queue)
        self.stopped = False

    # --- doorbells -----------------------------------------------------------------------------

    def ring_submission(self, number: int, tail: int) -> None:
        """There are commands up to ``tail``; what is no queue or no place is ignored."""
        queue = self.submission.get(number)
        if queue is not None and tail < queue.size:
            queue.tail = tail
            self._pump(queue)

    def ring_completion(self, number: int, head: int) -> None:
        """Completions up to ``head`` were seen."""
        queue = self.completion.get(number)
        if queue is None or head >= queue.size:
            return
        queue.head = head
        self._drain(queue)
        for each in list(self.submission.values()):
            if each.completions is queue:
                self._pump(each)

    # --- commands ------------------------------------------------------------------------------

    def _pump(self, queue: SubmissionQueue) -> None:
        if queue.pumping:
            return
        queue.pumping = True
        try:
            while not self.stopped and queue.ready:
                self._start(queue, self._fetch(queue))
        except DmaError:
            self.fail()
        finally:
            queue.pumping = False

    def _fetch(self, queue: SubmissionQueue) -> Command:
        raw = self._master.dma_read(queue.base + queue.head * COMMAND_SIZE, COMMAND_SIZE)
        queue.head = (queue.head + 1) % queue.size
        queue.under_way += 1
        return Command.parse(raw)

    def _start(self, queue: SubmissionQueue, command: Command) -> None:
        end = partial(self._end, self.generation, queue, command.identifier)
        try:
            if queue.number != ADMIN:
                self._run(command, end)
            elif self.run_admin is not None:
                self.run_admin(command, end)
        except Failed as failure:
            end(failure.status, 0)

    def _run(self, command: Command, end: End) -> None:
        """An I/O command."""
        if command.opcode == FLUSH and command.namespace == EVERY_NAMESPACE:
            self.flush(lambda status: end(status, 0))
            return
        namespace = self.namespaces.get(command.namespace)
        if namespace is None:
            raise Failed(Status.INVALID_NAMESPACE)
        namespace.run(command, lambda status: end(status, 0))

    def flush(self, end: Callable[[Status], None]) -> None:
        """Every namespace, one after the other."""
        waiting = list(self.namespaces.values())
        worst = Status.SUCCESS

        def step(_: bytes, errno: int) -> None:
            nonlocal worst
            if errno:
                worst = Status.WRITE_FAULT
            if waiting:
                waiting.pop().medium.flush(step)
            else:
                end(worst)

        step(b"", 0)

    def _end(self, generation: int, queue: SubmissionQueue, identifier: int, status: Status,
             result: int) -> None:  # fmt: skip
        if generation != self.generation or self.stopped:
            return
        queue.under_way -= 1
        code = 0
        if status:
            code = status | (0 if status in RETRY else DNR)
        entry = struct.pack("<LLHHHH", result, 0, queue.head, queue.number, identifier, code << 1)
        queue.completions.waiting.append(entry)
        self._drain(queue.completions)
        self._pump(queue)
        if queue.on_idle is not None and not queue.under_way:
            then, queue.on_idle = queue.on_idle, None
            then()

    def _drain(self, queue: CompletionQueue) -> None:
        """Completions that have room go to memory."""
        posted = False
        while queue.waiting and not queue.full and not self.stopped:
            entry = bytearray(queue.waiting.popleft())
            entry[14] |= queue.phase
            try:
                self._master.dma_write(queue.base + queue.tail * COMPLETION_SIZE, bytes(entry))
            except DmaError:
                self.fail()
                return
            queue.advance()
            posted = True
        if posted:
            self._master.completed(queue)

    def fail(self) -> None:
        """CSTS.CFS: nothing more happens until a reset."""
        self.stopped = True
        self._master.fatal()

    def keep(self) -> None:
        """An admin command that waits for an event is not under way."""
        self.submission[ADMIN].under_way -= 1

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        """No request is under way."""
        return save(self, 1, ("stopped",)) | {
            "completion": [queue.state() for queue in self.completion.values()],
            "submission": [queue.state() for queue in self.submission.values()],
        }

    def restore(self, state: State) -> None:
        load(self, state, 1, ("stopped",))
        self.generation += 1
        completion = [CompletionQueue.restored(saved) for saved in state["completion"]]
        self.completion = {queue.number: queue for queue in completion}
        submission = [SubmissionQueue.restored(saved, self.completion)
                      for saved in state["submission"]]  # fmt: skip
        self.submission = {queue.number: queue for queue in submission}
