"""A drive on an IDE cable: command block registers, and data by PIO or DMA (ATA/ATAPI-7 vol. 2).

A command fetches or gathers all of its data at once; the registers then hand it out block by block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.device import DmaMap
from pytcg.hw.state import State, StateError, load, save
from pytcg.hw.storage.ata import Error, Taskfile

OBSOLETE: Final = 0xA0  # device register bits that read as 1
SLAVE: Final = 0x10
EXECUTE_DIAGNOSTIC: Final = 0x90
DEVICE_PASSED: Final = 0x01


class Reg(IntEnum):
    """Command block registers; two names where reading and writing differ."""

    DATA = 0
    FEATURES = ERROR = 1
    COUNT = 2
    LBA_LOW = 3
    LBA_MID = 4
    LBA_HIGH = 5
    DEVICE = 6
    COMMAND = STATUS = 7


@register_bits
class Status(IntFlag):
    """The status register."""

    ERR = 0x01
    DRQ = 0x08
    DSC = 0x10
    DF = 0x20
    DRDY = 0x40
    BSY = 0x80


READY: Final = Status.DRDY | Status.DSC


class Cable(Protocol):
    """What a drive drives."""

    def sync(self) -> None:
        """INTRQ may have changed."""
        ...

    def dma_request(self) -> None:
        """DMARQ may have changed."""
        ...


Then = Callable[[bytes], None]
"""What follows a data phase: gets what was taken (OUT), or b"" (IN)."""


class DmaState:
    """A command that waits for the bus master: data to give, or a length to take.

    With ``exchange`` the bytes may go straight between medium and memory: it moves them and tells
    what follows, or None if that would wait. Then ``fetch`` gets the data to give.
    """

    def __init__(self, data: bytes | None, length: int, then: Then, *,
                 exchange: Callable[[DmaMap], Then | None] | None = None,
                 fetch: Callable[[], None] | None = None) -> None:  # fmt: skip
        self.data = data
        self.length = length
        self.then = then
        self.exchange = exchange
        self.fetch = fetch


class IdeDrive(ABC):
    """Registers and data phases; subclasses know the commands."""

    signature: tuple[int, int]  # of LBA mid and high after reset

    def __init__(self) -> None:
        self.cable: Cable | None = None
        self.generation = 0  # completions of an older one are late: a reset came between
        self.dma: DmaState | None = None
        self.reset()

    def reset(self) -> None:
        """Hardware or software reset, and its diagnostic's signature."""
        self.generation += 1
        self.features = [0, 0]  # each register: current, and previous (48-bit commands)
        self.device = 0
        self.error = DEVICE_PASSED
        self.status = self.idle_status()
        self.irq = False
        self._buffer = b""
        self._at = self._end = self._block = 0
        self._gather: bytearray | None = None
        self._task = Taskfile(0)  # the command under way
        self._then: Callable[[bytes], None] | None = None
        self.dma = None
        self.set_signature()
        self._changed()

    def idle_status(self) -> int:
        """The status after reset."""
        return READY

    def set_signature(self) -> None:
        """What tells a disk from a packet device."""
        self.count = [1, 0]
        self.lba = [[1, 0], [self.signature[0], 0], [self.signature[1], 0]]

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int, *, previous: bool = False) -> int:
        """A register but DATA and STATUS; ``previous``: the older byte of the two written."""
        which = int(previous)
        if reg == Reg.ERROR:
            return self.error
        if reg == Reg.COUNT:
            return self.count[which]
        if reg == Reg.DEVICE:
            return self.device | OBSOLETE
        return self.lba[reg - Reg.LBA_LOW][which]

    def write(self, reg: int, value: int) -> None:
        """A register but DATA and COMMAND."""
        if reg == Reg.DEVICE:
            self.device = value & ~OBSOLETE
            return
        if reg == Reg.FEATURES:
            held = self.features
        elif reg == Reg.COUNT:
            held = self.count
        else:
            held = self.lba[reg - Reg.LBA_LOW]
        held[:] = value, held[0]

    def acknowledge(self) -> int:
        """STATUS: reading it takes the interrupt back."""
        self.irq = False
        self._changed()
        return self.status

    def command(self, value: int) -> None:
        """COMMAND."""
        if self.status & (Status.BSY | Status.DRQ) and not self.takes_when_busy(value):
            return
        self.irq = False
        self.error = 0
        self.status = READY
        self._gather, self._then, self.dma = None, None, None
        self._buffer = b""
        self._at = self._end = 0
        if value == EXECUTE_DIAGNOSTIC:
            self.diagnose()
        else:
            self._task = self.taskfile(value)
            self.execute(self._task)
        self._changed()

    def takes_when_busy(self, command: int) -> bool:
        """Whether it listens to this command whatever it is doing."""
        return False

    def diagnose(self) -> None:
        """EXECUTE DEVICE DIAGNOSTIC, which both drives hear."""
        self.set_signature()
        self.error = DEVICE_PASSED
        self.status = self.idle_status()
        self.raise_irq()

    def taskfile(self, command: int) -> Taskfile:
        """The registers as one."""
        low = [held[0] for held in self.lba]
        high = [held[1] for held in self.lba]
        lba = int.from_bytes(bytes(low + high), "little")
        pair = [held[0] | held[1] << 8 for held in (self.features, self.count)]
        return Taskfile(command, pair[0], pair[1], lba, self.device)

    def show(self, *, count: int | None, lba: int | None) -> None:
        """Results in the registers."""
        if count is not None:
            self.count[:] = count & 0xFF, count >> 8 & 0xFF
        if lba is not None:
            raw = lba.to_bytes(6, "little")
            for index, held in enumerate(self.lba):
                held[:] = raw[index], raw[index + 3]
            if lba < 1 << 28 and self.device & 0x40:
                self.device = self.device & 0xF0 | lba >> 24 & 0x0F

    @abstractmethod
    def execute(self, task: Taskfile) -> None:
        """Run a command."""

    @abstractmethod
    def continuation(self, task: Taskfile, *, out: bool) -> Callable[[bytes], None]:
        """What follows when a restored command's data has gone OUT, or in by the bus master."""

    def fetching(self, task: Taskfile) -> DmaState:
        """A restored command that was to fetch its data when the bus master is there."""
        raise StateError(f"{type(self).__name__}: command {task.command:#x} fetches nothing")

    def raise_irq(self) -> None:
        """INTRQ."""
        self.irq = True
        self._changed()

    def _changed(self) -> None:
        if self.cable is not None:
            self.cable.sync()

    # --- phases --------------------------------------------------------------------------------

    def busy(self) -> None:
        """Work is under way."""
        self.status = Status.BSY

    def finish(self, error: int = 0) -> None:
        """The command ended."""
        self.error = error
        self.status = READY | (Status.ERR if error else 0)
        self.raise_irq()

    def abort(self, error: int = Error.ABRT) -> None:
        """The command was not accepted."""
        self.finish(error)

    def data_in(self, data: bytes, block: int) -> None:
        """Let the processor read data, an interrupt for each block."""
        self._buffer, self._at, self._block = data, 0, block
        self._next_block()

    def data_out(self, length: int, block: int, then: Callable[[bytes], None], *,
                 interrupt: bool = False) -> None:  # fmt: skip
        """Let the processor write data; an interrupt for each block but the first."""
        self._gather, self._then = bytearray(), then
        self._block, self._end = block, length
        self.begin_block_out(min(block, length))
        if interrupt:
            self.raise_irq()

    @property
    def takes_data(self) -> bool:
        """Whether data goes OUT by the data register."""
        return self._gather is not None

    @property
    def room(self) -> int:
        """Bytes that the data register moves before the drive looks again."""
        gather = self._gather
        if gather is None:
            return self._end - self._at
        return min(self._block - len(gather) % self._block, self._end - len(gather))

    def _next_block(self) -> None:
        self._end = min(self._at + self._block, len(self._buffer))
        self.begin_block_in(self._end - self._at)
        self.raise_irq()

    def begin_block_in(self, length: int) -> None:
        """DRQ for ``length`` bytes to read."""
        self.status = READY | Status.DRQ

    def begin_block_out(self, length: int) -> None:
        """DRQ for ``length`` bytes to write."""
        self.status = READY | Status.DRQ

    def read_data(self, size: int) -> int:
        """The data register, 1, 2 or 4 bytes wide."""
        if not self.status & Status.DRQ or self._gather is not None or self.dma is not None:
            return 0
        data = self._buffer[self._at : min(self._at + size, self._end)]
        self._at += len(data)
        if self._at >= self._end:
            self._block_read()
        return int.from_bytes(data, "little")

    def read_run(self, size: int, count: int) -> bytes:
        """``count`` reads of the data register."""
        data = b""
        while len(data) < size * count:
            whole = min((self._end - self._at) // size, count - len(data) // size) * size
            if whole and self.status & Status.DRQ and self._gather is None and self.dma is None:
                data += self._buffer[self._at : self._at + whole]
                self._at += whole
                if self._at >= self._end:
                    self._block_read()
            else:
                data += self.read_data(size).to_bytes(size, "little")
        return data

    def write_run(self, data: bytes, size: int) -> None:
        """Writes of the data register: all but the last of a block at once."""
        at = 0
        while at < len(data):
            gather = self._gather
            if gather is not None and self.status & Status.DRQ:
                whole = min(self.room - 1, len(data) - at) // size * size
                gather += data[at : at + whole]
                at += whole
            element = data[at : at + size]
            if element:
                self.write_data(int.from_bytes(element, "little"), size)
            at += size

    def _block_read(self) -> None:
        if self._at < len(self._buffer):
            self._next_block()
        else:
            self._buffer = b""
            self._at = self._end = 0
            self.data_read()

    def data_read(self) -> None:
        """The processor took all of it; a disk is ready without another interrupt."""
        self.status = READY

    def write_data(self, value: int, size: int) -> None:
        """The data register."""
        gather = self._gather
        if gather is None or not self.status & Status.DRQ:
            return
        gather += value.to_bytes(size, "little")
        if len(gather) >= self._end:
            then, self._gather, self._then = self._then, None, None
            assert then is not None
            self.busy()
            then(bytes(gather[: self._end]))
        elif len(gather) % self._block < size:
            self.begin_block_out(min(self._block, self._end - len(gather)))
            self.raise_irq()

    def dma_in(self, data: bytes, then: Then) -> None:
        """Let the bus master fetch data, then go on."""
        self.dma_wait(DmaState(data, len(data), then))

    def dma_out(self, length: int, then: Then) -> None:
        """Let the bus master bring data, then go on."""
        self.dma_wait(DmaState(None, length, then))

    def dma_wait(self, state: DmaState) -> None:
        """Let the bus master do as the state says."""
        self.status = READY | Status.DRQ
        self.dma = state
        self._ask_dma()

    def exchange(self, memory: DmaMap | None) -> bool:
        """Move the bytes between medium and memory at once, for `dma_done` to follow.

        If not: the state stays as one without ``exchange``; but `dma` is another one, or None, if
        the data has to be fetched first.
        """
        state = self.dma
        assert state is not None and state.exchange is not None
        exchange, state.exchange = state.exchange, None
        then = None if memory is None else exchange(memory)
        if then is not None:
            state.then = then
        elif state.fetch is not None:
            self.dma = None
            state.fetch()
        return then is not None

    def _ask_dma(self) -> None:
        if self.cable is not None:
            self.cable.dma_request()

    def dma_done(self, data: bytes) -> None:
        """The bus master moved everything."""
        state, self.dma = self.dma, None
        assert state is not None
        self.busy()
        state.then(data)

    # --- saved state ---------------------------------------------------------------------------

    _FIELDS = ("features", "device", "error", "status", "irq", "count", "lba", "_buffer", "_at",
               "_end", "_block")  # fmt: skip

    def state(self) -> State:
        """What a command that waits for its data needs is in it; nothing may be under way."""
        phase: State = {"task": list(vars(self._task).values())}
        if self._gather is not None:
            phase["gather"] = self._gather.hex()
        if self.dma is not None:
            data = self.dma.data
            phase["dma"] = {"data": None if data is None else data.hex(),
                            "length": self.dma.length, "fetch": self.dma.fetch is not None}
        return save(self, 1, self._FIELDS) | {"phase": phase}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.generation += 1
        phase = state["phase"]
        self._task = Taskfile(*phase["task"])
        self._gather, self._then, self.dma = None, None, None
        if "gather" in phase:
            self._gather = bytearray.fromhex(phase["gather"])
            self._then = self.continuation(self._task, out=True)
        if "dma" in phase:
            self.dma = self._restored_dma(phase["dma"])
        self._changed()

    def _restored_dma(self, saved: State) -> DmaState:
        if saved.get("fetch"):
            return self.fetching(self._task)
        data = saved["data"]
        then = self.continuation(self._task, out=data is None)
        return DmaState(None if data is None else bytes.fromhex(data), saved["length"], then)

    def dma_failed(self) -> None:
        """The bus master could not: memory didn't answer, or its list was too short."""
        self.dma = None
        self.finish(Error.ABRT)
