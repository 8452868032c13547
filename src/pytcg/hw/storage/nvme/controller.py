"""An NVMe controller as a PCI function: registers, doorbells, interrupts (NVMe 1.4, 3).

The identity is that of QEMU's. Fatal conditions set CSTS.CFS; the guest's driver resets then.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State, load, save
from pytcg.hw.storage.medium import Medium
from pytcg.hw.storage.nvme.admin import MAX_ENTRIES, Admin
from pytcg.hw.storage.nvme.command import Status
from pytcg.hw.storage.nvme.engine import Engine
from pytcg.hw.storage.nvme.features import Features
from pytcg.hw.storage.nvme.identify import VERSION
from pytcg.hw.storage.nvme.identify import Identity as Names
from pytcg.hw.storage.nvme.memory import GuestMemory
from pytcg.hw.storage.nvme.namespace import Namespace
from pytcg.hw.storage.nvme.queues import CompletionQueue

DOORBELLS: Final = 0x1000
MSIX_TABLE: Final = 0x2000
MSIX_PENDING: Final = 0x3000
WINDOW: Final = 0x4000
MAX_PAGE: Final = 4  # CAP.MPSMAX: 2^(12 + 4) bytes
# Entries of queues, queues in one piece, 7.5 s to get ready, the NVM command set, page sizes.
CAPABILITIES: Final = MAX_ENTRIES - 1 | 1 << 16 | 15 << 24 | 1 << 37 | MAX_PAGE << 52
ENABLE: Final = 1
READY: Final = 1
FATAL: Final = 2
SHUTDOWN: Final = 3 << 14  # in CC
SHUTDOWN_RUNNING: Final = 1 << 2
SHUTDOWN_DONE: Final = 2 << 2


class Reg(IntEnum):
    """Controller registers."""

    CAP = 0x00
    VS = 0x08
    INTMS = 0x0C
    INTMC = 0x10
    CC = 0x14
    CSTS = 0x1C
    AQA = 0x24
    ASQ = 0x28
    ACQ = 0x30


class Nvme(PciDevice):
    """A controller with ``queues`` I/O queue pairs and ``vectors`` messages (0: the pin only)."""

    identity = Identity(0x1B36, 0x0010, class_code=0x010802, revision=2, pin=1)
    _FIELDS = ("mask", "configuration", "status", "admin_sizes", "admin_submission",
               "admin_completion")  # fmt: skip

    def __init__(self, serial: str, *, queues: int = 64, vectors: int = 65,
                 write_cache: bool = True) -> None:  # fmt: skip
        super().__init__()
        window = self.add_bar(0, WINDOW, BarType.MEMORY_64, self._read, self._write)
        if vectors:
            self.add_msix(window, vectors, table=MSIX_TABLE, pba=MSIX_PENDING)
        self._vectors = vectors
        self._memory = GuestMemory(self)
        self.engine = Engine(self)
        features = Features(queues, max(1, vectors), write_cache=write_cache)
        ids = self.identity.vendor, self.identity.subsystem_vendor
        self._admin = Admin(self.engine, self._memory, Names(serial), ids, queues, features)
        self._admin.vectors = lambda: self._vectors if self.messages else 1
        self._clear()

    def add_namespace(self, number: int, medium: Medium) -> None:
        """Show a medium as this namespace."""
        self.engine.namespaces[number] = Namespace(
            medium, self._memory, write_cache=self._admin.features.write_cache)  # fmt: skip

    def _clear(self) -> None:
        self.mask = self.configuration = self.status = 0
        self.admin_sizes = self.admin_submission = self.admin_completion = 0

    def reset(self) -> None:
        super().reset()
        self._disable()
        self._clear()

    # --- registers -----------------------------------------------------------------------------

    def _registers(self) -> bytes:
        return struct.pack(
            "<QLLLLLLLLQQ", CAPABILITIES, VERSION, self.mask, self.mask, self.configuration, 0,
            self.status, 0, self.admin_sizes, self.admin_submission, self.admin_completion,
        )  # fmt: skip

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self._registers()[offset : offset + size], "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        if size == 8:
            self._write(offset, 4, value & 0xFFFFFFFF)
            self._write(offset + 4, 4, value >> 32)
        elif DOORBELLS <= offset < MSIX_TABLE:
            self._ring(offset - DOORBELLS >> 2, value & 0xFFFF)
        elif size == 4:
            self._write_register(offset, value)
        self._update_pin()

    def _ring(self, doorbell: int, value: int) -> None:
        if self.engine.stopped:
            return
        number, completions = divmod(doorbell, 2)
        (self.engine.ring_completion if completions else self.engine.ring_submission)(number, value)

    def _write_register(self, offset: int, value: int) -> None:
        if offset == Reg.INTMS:
            self.mask |= value
        elif offset == Reg.INTMC:
            self.mask &= ~value
        elif offset == Reg.CC:
            self._configure(value)
        elif offset == Reg.AQA:
            self.admin_sizes = value & 0x0FFF0FFF
        elif offset in (Reg.ASQ, Reg.ASQ + 4):
            self.admin_submission = _half(self.admin_submission, value, high=offset != Reg.ASQ)
        elif offset in (Reg.ACQ, Reg.ACQ + 4):
            self.admin_completion = _half(self.admin_completion, value, high=offset != Reg.ACQ)

    def _configure(self, value: int) -> None:
        before, self.configuration = self.configuration, value
        if value & ENABLE and not before & ENABLE:
            self._enable()
        elif before & ENABLE and not value & ENABLE:
            self._disable()
        if value & SHUTDOWN and not before & SHUTDOWN:
            self._shut_down()
        elif not value & SHUTDOWN:
            self.status &= ~(SHUTDOWN_RUNNING | SHUTDOWN_DONE)

    def _enable(self) -> None:
        page_shift = self.configuration >> 7 & 15
        command_set = self.configuration >> 4 & 7
        page = 1 << 12 + page_shift
        submission, completion = self.admin_sizes & 0xFFF, self.admin_sizes >> 16
        misplaced = (self.admin_submission | self.admin_completion) & page - 1
        if page_shift > MAX_PAGE or command_set or misplaced or not submission or not completion:
            self.status = FATAL
            return
        self._memory.page = page
        self.engine.start(self.admin_submission, submission + 1, self.admin_completion,
                          completion + 1)  # fmt: skip
        self.status = READY

    def _disable(self) -> None:
        self._memory.epoch += 1
        self.engine.reset()
        self._admin.reset()
        self.status &= SHUTDOWN_RUNNING | SHUTDOWN_DONE
        self.mask = 0

    def _shut_down(self) -> None:
        """What was written goes to stable storage; then it may lose its power."""
        self.status = self.status & ~SHUTDOWN_DONE | SHUTDOWN_RUNNING

        def done(_: Status) -> None:
            if self.status & SHUTDOWN_RUNNING:
                self.status = self.status & ~SHUTDOWN_RUNNING | SHUTDOWN_DONE

        self.engine.flush(done)

    # --- the engine's side ---------------------------------------------------------------------

    def completed(self, queue: CompletionQueue) -> None:
        if queue.interrupts and self.messages:
            self.notify(queue.vector)
        self._update_pin()

    def fatal(self) -> None:
        self.status |= FATAL

    def _update_pin(self) -> None:
        """Up while an interrupting queue has entries that weren't seen and its bit isn't masked."""
        wanted = not self.messages and any(
            queue.interrupts and queue.head != queue.tail and not self.mask >> queue.vector & 1
            for queue in self.engine.completion.values()
        )
        if wanted != self.intx:
            self.set_intx(wanted)

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        return super().state() | save(self, 1, self._FIELDS) | {
            "page": self._memory.page, "engine": self.engine.state(), "admin": self._admin.state()}

    def restore(self, state: State) -> None:
        super().restore(state)
        load(self, state, 1, self._FIELDS)
        self._memory.page = state["page"]
        self.engine.restore(state["engine"])
        self._admin.restore(state["admin"])
        self._update_pin()


def _half(register: int, value: int, *, high: bool) -> int:
    """A 64-bit register after a store of one of its halves; the low 12 bits are zero."""
    kept = register & 0xFFFFFFFF if high else register & ~0xFFFFFFFF
    return (kept | (value << 32 if high else value)) & ~0xFFF
