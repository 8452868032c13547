"""A guest's side of NVMe: enough of a driver to test the controller with."""

from __future__ import annotations

import struct

from hw.media import FakeMedium
from hw.virtio_driver import Slot
from pytcg.hw.pci.config import Command
from pytcg.hw.pci.config import Reg as Pci
from pytcg.hw.storage.nvme.controller import DOORBELLS, Nvme, Reg

ASQ, ACQ, SQ, CQ, LIST, DATA = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x10000
ENTRIES = 8
ENABLE = 0x00460001  # 64-byte commands, 16-byte completions, pages of 4 KiB


class Driver:
    """Brings a controller up; queue 1 is its I/O queue pair."""

    def __init__(self, medium: FakeMedium | None = None) -> None:
        self.medium = medium or FakeMedium(1 << 20)
        self.card = Nvme("abc")
        self.card.add_namespace(1, self.medium)
        self.slot = Slot()
        self.card.host = self.slot
        self.memory = self.slot.memory
        self.card.reset()
        self.card.write_config(Pci.COMMAND, 2, Command.MEMORY | Command.BUS_MASTER)
        self.identifier = 0
        self.enable()

    def enable(self) -> None:
        """Admin queues and CC.EN."""
        self.tails, self.heads, self.phases = [0, 0], [0, 0], [1, 1]
        self.memory[ACQ : ACQ + 4096] = self.memory[CQ : CQ + 4096] = bytes(4096)
        self.put(Reg.AQA, ENTRIES - 1 << 16 | ENTRIES - 1)
        self.put(Reg.ASQ, ASQ, 8)
        self.put(Reg.ACQ, ACQ, 8)
        self.put(Reg.CC, ENABLE)
        assert self.get(Reg.CSTS) == 1

    def make_queues(self) -> None:
        """I/O queue pair 1."""
        assert self.admin(5, pointer=CQ, cdw10=ENTRIES - 1 << 16 | 1, cdw11=3) == (0, 0)
        assert self.admin(1, pointer=SQ, cdw10=ENTRIES - 1 << 16 | 1, cdw11=1 << 16 | 1) == (0, 0)

    def get(self, reg: int, size: int = 4) -> int:
        return self.card.bars[0].read(reg, size)

    def put(self, reg: int, value: int, size: int = 4) -> None:
        self.card.bars[0].write(reg, size, value)

    def submit(self, queue: int, opcode: int, *, namespace: int = 1, pointer: int | bytes = DATA,
               second: int = 0, flags: int = 0, cdw10: int = 0, cdw11: int = 0, cdw12: int = 0
               ) -> int:  # fmt: skip
        """Queue a command and ring; its identifier."""
        self.identifier = self.identifier + 1 & 0xFFFF
        where = struct.pack("<QQ", pointer, second) if isinstance(pointer, int) else pointer
        raw = struct.pack("<BBHL16x16sLLLLLL", opcode, flags, self.identifier, namespace, where,
                          cdw10, cdw11, cdw12, 0, 0, 0)  # fmt: skip
        at = (ASQ, SQ)[queue] + self.tails[queue] * 64
        self.memory[at : at + 64] = raw
        self.tails[queue] = (self.tails[queue] + 1) % ENTRIES
        self.put(DOORBELLS + 8 * queue, self.tails[queue])
        return self.identifier

    def finished(self, queue: int, *, ring: bool = True) -> tuple[int, int, int] | None:
        """The next completion: identifier, status without DNR, double word 0."""
        at = (ACQ, CQ)[queue] + self.heads[queue] * 16
        result, _, _, _, identifier, status = struct.unpack("<LLHHHH", self.memory[at : at + 16])
        if status & 1 != self.phases[queue]:
            return None
        self.heads[queue] = (self.heads[queue] + 1) % ENTRIES
        self.phases[queue] ^= not self.heads[queue]
        if ring:
            self.put(DOORBELLS + 8 * queue + 4, self.heads[queue])
        return identifier, status >> 1 & 0x3FFF, result

    def _run(self, queue: int, opcode: int, **fields: int | bytes) -> tuple[int, int]:
        identifier = self.submit(queue, opcode, **fields)  # type: ignore[arg-type]
        completion = self.finished(queue)
        assert completion is not None and completion[0] == identifier
        return completion[1], completion[2]

    def admin(self, opcode: int, **fields: int | bytes) -> tuple[int, int]:
        """Run an admin command: status and double word 0."""
        return self._run(0, opcode, **fields)

    def io(self, opcode: int, **fields: int | bytes) -> int:
        """Run an I/O command: its status."""
        return self._run(1, opcode, **fields)[0]
