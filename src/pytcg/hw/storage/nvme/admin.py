"""Admin commands (NVMe 1.4, 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.storage.nvme import identify
from pytcg.hw.storage.nvme.command import Command, Failed, Status
from pytcg.hw.storage.nvme.engine import ADMIN, End, Engine
from pytcg.hw.storage.nvme.features import Feature, Features
from pytcg.hw.storage.nvme.memory import GuestMemory
from pytcg.hw.storage.nvme.namespace import EVERY_NAMESPACE, Namespace
from pytcg.hw.storage.nvme.queues import CompletionQueue, SubmissionQueue

MAX_ENTRIES: Final = 2048
MAX_EVENTS: Final = 4  # asynchronous event requests
NOT_ABORTED: Final = 1
CONTIGUOUS: Final = 1  # in CDW11 of the commands that create queues
INTERRUPTS: Final = 2


class Admin:
    """`run` is what the engine calls; ``vectors`` is how many interrupts there are now."""

    def __init__(self, engine: Engine, memory: GuestMemory, identity: identify.Identity,
                 ids: tuple[int, int], queues: int, features: Features) -> None:  # fmt: skip
        self._engine = engine
        self._memory = memory
        self._identity = identity
        self._ids = ids
        self._queues = queues
        self.features = features
        self.vectors: Callable[[], int] = lambda: 1
        self.events = 0
        engine.run_admin = self.run

    def reset(self) -> None:
        """The controller's."""
        self.features.reset()
        self.events = 0
        self._apply_cache()

    def run(self, command: Command, end: End) -> None:
        """Any admin command; Failed."""
        handler = _COMMANDS.get(command.opcode)
        if handler is None:
            raise Failed(Status.INVALID_OPCODE)
        if command.uses_sgl:
            raise Failed(Status.INVALID_FIELD)
        handler(self, command, end)

    # --- queues --------------------------------------------------------------------------------

    def _place(self, command: Command, taken: bool) -> tuple[int, int, int]:
        """Number, address and entries of a queue that is to be made."""
        number, size = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1
        base = int.from_bytes(command.pointer[:8], "little")
        if not 1 <= number <= self._queues or taken:
            raise Failed(Status.INVALID_QUEUE_ID)
        if not 2 <= size <= MAX_ENTRIES:
            raise Failed(Status.INVALID_QUEUE_SIZE)
        if base % self._memory.page:
            raise Failed(Status.INVALID_PRP_OFFSET)
        if not command.cdw11 & CONTIGUOUS:
            raise Failed(Status.INVALID_FIELD)
        return number, base, size

    def _create_completion(self, command: Command, end: End) -> None:
        queues = self._engine.completion
        number, base, size = self._place(command, command.cdw10 & 0xFFFF in queues)
        vector = command.cdw11 >> 16
        if vector >= self.vectors():
            raise Failed(Status.INVALID_VECTOR)
        interrupts = bool(command.cdw11 & INTERRUPTS)
        queues[number] = CompletionQueue(number, base, size, vector, interrupts)
        end(Status.SUCCESS, 0)

    def _create_submission(self, command: Command, end: End) -> None:
        queues = self._engine.submission
        completions = self._engine.completion.get(command.cdw11 >> 16)
        if completions is None or completions.number == ADMIN:
            raise Failed(Status.INVALID_CQ)
        number, base, size = self._place(command, command.cdw10 & 0xFFFF in queues)
        queues[number] = SubmissionQueue(number, base, size, completions)
        end(Status.SUCCESS, 0)

    def _delete_submission(self, command: Command, end: End) -> None:
        """It has ended when every command of the queue has."""
        queue = self._engine.submission.get(command.cdw10 & 0xFFFF)
        if queue is None or queue.number == ADMIN or queue.on_idle is not None:
            raise Failed(Status.INVALID_QUEUE_ID)

        def idle() -> None:
            del self._engine.submission[queue.number]
            end(Status.SUCCESS, 0)

        queue.on_idle = idle
        if not queue.under_way:
            idle()

    def _delete_completion(self, command: Command, end: End) -> None:
        number = command.cdw10 & 0xFFFF
        if number == ADMIN or number not in self._engine.completion:
            raise Failed(Status.INVALID_QUEUE_ID)
        if any(queue.completions.number == number for queue in self._engine.submission.values()):
            raise Failed(Status.INVALID_QUEUE_DELETION)
        del self._engine.completion[number]
        end(Status.SUCCESS, 0)

    # --- what it says of itself ----------------------------------------------------------------

    def _answer(self, command: Command, data: bytes, end: End) -> None:
        self._memory.scatter(self._memory.spans(command, len(data)), data)
        end(Status.SUCCESS, 0)

    def _identify(self, command: Command, end: End) -> None:
        handler = _STRUCTURES.get(command.cdw10 & 0xFF)
        if handler is None:
            raise Failed(Status.INVALID_FIELD)
        self._answer(command, handler(self, command), end)

    def _controller(self, _: Command) -> bytes:
        most = max(self._engine.namespaces, default=0)
        return identify.controller(self._identity, *self._ids, most)

    def _namespace(self, command: Command) -> bytes:
        number = command.namespace
        namespace = self._engine.namespaces.get(number)
        if namespace is None:
            if not 1 <= number <= max(self._engine.namespaces, default=0):
                raise Failed(Status.INVALID_NAMESPACE)
            return bytes(identify.PAGE)
        return identify.namespace(namespace.sectors, read_only=namespace.medium.read_only)

    def _active(self, command: Command) -> bytes:
        if command.namespace >= 0xFFFFFFFE:
            raise Failed(Status.INVALID_NAMESPACE)
        return identify.active(n for n in self._engine.namespaces if n > command.namespace)

    def _descriptors(self, command: Command) -> bytes:
        if command.namespace not in self._engine.namespaces:
            raise Failed(Status.INVALID_NAMESPACE)
        return identify.descriptors(f"{self._identity.serial}/{command.namespace}")

    def _log(self, command: Command, end: End) -> None:
        length = ((command.cdw10 >> 16) + ((command.cdw11 & 0xFFFF) << 16) + 1) * 4
        offset = command.cdw12 | command.cdw13 << 32
        page = self._log_page(command)
        if offset % 4 or offset > len(page):
            raise Failed(Status.INVALID_FIELD)
        self._answer(command, page[offset : offset + length], end)

    def _log_page(self, command: Command) -> bytes:
        number = command.cdw10 & 0xFF
        if number == 1:  # errors: none are kept
            return bytes(4 * 64)
        if number == 2:
            return self._health(command)
        if number == 3:
            return identify.firmware_slots(self._identity)
        raise Failed(Status.INVALID_LOG_PAGE)

    def _health(self, command: Command) -> bytes:
        if command.namespace not in (0, EVERY_NAMESPACE):
            raise Failed(Status.INVALID_FIELD)
        all = list(self._engine.namespaces.values())

        def total(count: Callable[[Namespace], int]) -> int:
            return sum(map(count, all))

        return identify.health(
            total(lambda each: each.bytes_read), total(lambda each: each.bytes_written),
            total(lambda each: each.reads), total(lambda each: each.writes),
        )  # fmt: skip

    # --- features and events -------------------------------------------------------------------

    def _get_features(self, command: Command, end: End) -> None:
        end(Status.SUCCESS, self.features.get(command))

    def _set_features(self, command: Command, end: End) -> None:
        result = self.features.set(command)
        self._apply_cache()
        if command.cdw10 & 0xFF == Feature.WRITE_CACHE and not self.features.write_cache:
            self._engine.flush(lambda status: end(status, result))
        else:
            end(Status.SUCCESS, result)

    def _apply_cache(self) -> None:
        for namespace in self._engine.namespaces.values():
            namespace.write_cache = self.features.write_cache

    def _abort(self, _: Command, end: End) -> None:
        """Best effort: a command that was fetched goes to its end."""
        end(Status.SUCCESS, NOT_ABORTED)

    def _request_event(self, _: Command, end: End) -> None:
        """It waits: nothing that this controller reports ever happens."""
        if self.events >= MAX_EVENTS:
            raise Failed(Status.TOO_MANY_EVENTS)
        del end
        self.events += 1
        self._engine.keep()

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        return save(self, 1, ("events",)) | {"features": self.features.state()}

    def restore(self, state: State) -> None:
        load(self, state, 1, ("events",))
        self.features.restore(state["features"])
        self._apply_cache()


_STRUCTURES: Final[dict[int, Callable[[Admin, Command], bytes]]] = {
    0x00: Admin._namespace, 0x01: Admin._controller, 0x02: Admin._active, 0x03: Admin._descriptors,
}  # fmt: skip
_COMMANDS: Final[dict[int, Callable[[Admin, Command, End], None]]] = {
    0x00: Admin._delete_submission, 0x01: Admin._create_submission, 0x02: Admin._log,
    0x04: Admin._delete_completion, 0x05: Admin._create_completion, 0x06: Admin._identify,
    0x08: Admin._abort, 0x09: Admin._set_features, 0x0A: Admin._get_features,
    0x0C: Admin._request_event,
}  # fmt: skip
