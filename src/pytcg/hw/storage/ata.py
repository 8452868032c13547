"""ATA commands of a disk, whatever carries them: IDE registers or AHCI's FISes (ATA/ATAPI-7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag, auto
from functools import partial
from typing import Final, NamedTuple

from pytcg.hw.bits import register_bits
from pytcg.hw.state import State, load, save
from pytcg.hw.storage.ata_identify import DiskIdentity, Geometry, identify_disk
from pytcg.hw.storage.ata_smart import Smart
from pytcg.hw.storage.medium import Medium

SECTOR: Final = 512
MAX_MULTIPLE: Final = 16
LBA: Final = 0x40  # in the device register: the address is a block number
MAX_28: Final = 1 << 28
MAX_48: Final = 1 << 48
STANDBY_ACTIVE: Final = 0xFF  # CHECK POWER MODE's answer


@register_bits
class Error(IntFlag):
    """The error register."""

    ABRT = 0x04
    IDNF = 0x10
    UNC = 0x40


class Direction(Enum):
    """Which way a command's data goes."""

    NONE = auto()
    IN = auto()
    OUT = auto()


@dataclass(frozen=True)
class Taskfile:
    """The registers a command is given in, with their 48-bit extension."""

    command: int
    feature: int = 0
    count: int = 0
    lba: int = 0
    device: int = LBA


@dataclass(frozen=True)
class Result:
    """How a command ended; ``count`` and ``lba`` are what the registers show, None: unchanged."""

    error: int = 0
    data: bytes = b""
    count: int | None = None
    lba: int | None = None


Finish = Callable[[Result], None]


class Transfer(NamedTuple):
    """A command that was accepted: `run` it, with the data if that goes OUT.

    ``block`` is how many bytes go at a time when the processor moves them. ``exchange`` moves them
    between the medium and buffers at once; None if that would wait.
    """

    direction: Direction
    length: int
    run: Callable[[bytes, Finish], None]
    dma: bool = False
    block: int = SECTOR
    exchange: Callable[[Sequence[memoryview]], Result | None] | None = None


class Abort(Exception):
    """A command that is refused, with the error register's bits."""

    def __init__(self, error: int = Error.ABRT) -> None:
        super().__init__(error)
        self.error = error


_SETTINGS: Final = ("multiple", "write_cache", "dma_mode")


class _Kind(NamedTuple):
    """One row of the table of transfers."""

    out: bool = False
    dma: bool = False
    extended: bool = False
    multiple: bool = False
    fua: bool = False


_TRANSFERS: Final = {
    0x20: _Kind(), 0x21: _Kind(), 0x24: _Kind(extended=True),
    0xC4: _Kind(multiple=True), 0x29: _Kind(multiple=True, extended=True),
    0xC8: _Kind(dma=True), 0xC9: _Kind(dma=True), 0x25: _Kind(dma=True, extended=True),
    0x30: _Kind(out=True), 0x31: _Kind(out=True), 0x34: _Kind(out=True, extended=True),
    0xC5: _Kind(out=True, multiple=True),
    0x39: _Kind(out=True, multiple=True, extended=True),
    0xCE: _Kind(out=True, multiple=True, extended=True, fua=True),
    0xCA: _Kind(out=True, dma=True), 0xCB: _Kind(out=True, dma=True),
    0x35: _Kind(out=True, dma=True, extended=True),
    0x3D: _Kind(out=True, dma=True, extended=True, fua=True),
}  # fmt: skip


def _nothing(result: Result) -> Transfer:
    return Transfer(Direction.NONE, 0, lambda _, finish: finish(result))


def _answer(data: bytes) -> Transfer:
    return Transfer(Direction.IN, len(data), lambda _, finish: finish(Result(data=data)))


@dataclass
class AtaDisk:
    """A disk. `start` takes a command; Abort is the refusal of one."""

    medium: Medium
    identity: DiskIdentity = field(default_factory=DiskIdentity)
    write_cache: bool = True
    queue_depth: int = 0  # of native command queuing, where the bus has it

    def __post_init__(self) -> None:
        self.sectors = self.medium.size // SECTOR
        self.default_geometry = Geometry.of(self.sectors)
        self.smart = Smart(self.identity.serial)
        self.reset()

    def reset(self) -> None:
        """Hardware or software reset."""
        self.geometry = self.default_geometry
        self.multiple = MAX_MULTIPLE
        self.write_cache = True
        self.dma_mode = 0x45  # UDMA 5

    def state(self) -> State:
        """Settings; the blocks are the medium's."""
        return save(self, 1, _SETTINGS) | {"geometry": list(self.geometry)}

    def restore(self, state: State) -> None:
        load(self, state, 1, _SETTINGS)
        self.geometry = Geometry(*state["geometry"])

    def start(self, task: Taskfile) -> Transfer:
        """What the command moves, and how it is run; Abort if it can't be."""
        kind = _TRANSFERS.get(task.command)
        if kind is not None:
            return self._transfer(kind, task)
        if task.command & 0xF0 == 0x10:  # RECALIBRATE
            return _nothing(Result())
        handler = _COMMANDS.get(task.command)
        if handler is None:
            raise Abort
        return handler(self, task)

    # --- addresses -----------------------------------------------------------------------------

    def _range(self, task: Taskfile, *, extended: bool) -> tuple[int, int]:
        """First sector and number of sectors; Abort outside the disk."""
        if extended:
            count = task.count & 0xFFFF or 0x10000
            first = task.lba
        else:
            count = task.count & 0xFF or 0x100
            first = self._address_28(task)
        if first + count > self.sectors:
            raise Abort(Error.IDNF | Error.ABRT)
        return first, count

    def _address_28(self, task: Taskfile) -> int:
        low = task.lba & 0xFFFFFF
        head = task.device & 0x0F
        if task.device & LBA:
            return head << 24 | low
        sector, cylinder = low & 0xFF, low >> 8
        _, heads, per_track = self.geometry
        if not 1 <= sector <= per_track or head >= heads:
            raise Abort(Error.IDNF)
        return (cylinder * heads + head) * per_track + sector - 1

    # --- data ----------------------------------------------------------------------------------

    def _transfer(self, kind: _Kind, task: Taskfile) -> Transfer:
        if kind.multiple and not self.multiple:
            raise Abort
        if kind.out and self.medium.read_only:
            raise Abort
        first, count = self._range(task, extended=kind.extended)
        length = count * SECTOR
        block = SECTOR * (self.multiple if kind.multiple else 1)
        last = first + count - 1
        if kind.out:
            run = partial(self._write, first, last, kind.fua)
            exchange = partial(self._write_now, first, last, kind.fua)
            return Transfer(Direction.OUT, length, run, kind.dma, block, exchange)
        run = partial(self._read, first, last)
        exchange = partial(self._read_now, first, last)
        return Transfer(Direction.IN, length, run, kind.dma, block, exchange)

    def _read_now(self, first: int, last: int, buffers: Sequence[memoryview]) -> Result | None:
        moved = self.medium.read_now(first * SECTOR, buffers)
        return Result(count=0, lba=last) if moved else None

    def _write_now(self, first: int, last: int, fua: bool, buffers: Sequence[memoryview]
                   ) -> Result | None:  # fmt: skip
        if fua or not self.write_cache or not self.medium.write_now(first * SECTOR, buffers):
            return None
        return Result(count=0, lba=last)

    def _read(self, first: int, last: int, _: bytes, finish: Finish) -> None:
        def done(data: bytes, errno: int) -> None:
            if errno:
                finish(Result(Error.UNC, lba=first))
            else:
                finish(Result(data=data, count=0, lba=last))

        self.medium.read(first * SECTOR, (last + 1 - first) * SECTOR, done)

    def _write(self, first: int, last: int, fua: bool, data: bytes, finish: Finish) -> None:
        def done(_: bytes, errno: int) -> None:
            finish(Result(Error.ABRT, lba=first) if errno else Result(count=0, lba=last))

        self.medium.write(first * SECTOR, data, done, fua=fua or not self.write_cache)

    def _verify(self, task: Taskfile) -> Transfer:
        first, count = self._range(task, extended=task.command == 0x42)
        run = partial(self._read, first, first + count - 1)
        return Transfer(Direction.NONE, 0, run)

    def _flush(self, _: Taskfile) -> Transfer:
        def run(_: bytes, finish: Finish) -> None:
            self.medium.flush(lambda _, errno: finish(Result(Error.ABRT if errno else 0)))

        return Transfer(Direction.NONE, 0, run)

    def _data_set_management(self, task: Taskfile) -> Transfer:
        """TRIM: ranges of a 48-bit address and a 16-bit count, eight bytes each."""
        if not task.feature & 1 or self.medium.read_only:
            raise Abort
        length = (task.count & 0xFFFF or 0x10000) * SECTOR
        return Transfer(Direction.OUT, length, self._trim, dma=True)

    def _trim(self, data: bytes, finish: Finish) -> None:
        entries = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        ranges = [(entry & MAX_48 - 1, entry >> 48) for entry in entries if entry >> 48]
        if any(first + count > self.sectors for first, count in ranges):
            finish(Result(Error.IDNF | Error.ABRT))
            return

        def step(_: bytes, errno: int) -> None:
            if errno or not ranges:
                finish(Result(Error.ABRT if errno else 0))
                return
            first, count = ranges.pop()
            self.medium.discard(first * SECTOR, count * SECTOR, step)

        step(b"", 0)

    # --- the rest ------------------------------------------------------------------------------

    def _identify(self, _: Taskfile) -> Transfer:
        return _answer(identify_disk(self))

    def _set_multiple(self, task: Taskfile) -> Transfer:
        count = task.count & 0xFF
        if count > MAX_MULTIPLE or count & count - 1:
            raise Abort
        self.multiple = count
        return _nothing(Result())

    def _initialize_parameters(self, task: Taskfile) -> Transfer:
        heads, sectors = (task.device & 0x0F) + 1, task.count & 0xFF
        if not sectors:
            raise Abort
        cylinders = min(65535, self.sectors // (heads * sectors))
        self.geometry = Geometry(cylinders, heads, sectors)
        return _nothing(Result())

    def _set_features(self, task: Taskfile) -> Transfer:
        feature = task.feature & 0xFF
        if feature == 0x03:
            self._set_mode(task.count & 0xFF)
        elif feature in (0x02, 0x82):
            self.write_cache = feature == 0x02
            if not self.write_cache:
                return self._flush(task)
        elif feature not in (0x05, 0x85, 0x42, 0xC2, 0xAA, 0x55, 0xCC, 0x66, 0x67, 0x69, 0x96):
            raise Abort
        return _nothing(Result())

    def _set_mode(self, mode: int) -> None:
        kind, number = mode >> 3, mode & 7
        most = {0: 1, 1: 4, 2: 0, 4: 2, 8: 5}  # PIO default, PIO, (single), multiword, ultra DMA
        if number > most.get(kind, -1):
            raise Abort
        if kind >= 4:
            self.dma_mode = mode

    def _native_max(self, task: Taskfile) -> Transfer:
        if task.command == 0x27:
            return _nothing(Result(lba=self.sectors - 1))
        return _nothing(Result(lba=min(self.sectors, MAX_28) - 1))

    def _check_power(self, _: Taskfile) -> Transfer:
        return _nothing(Result(count=STANDBY_ACTIVE))

    def _seek(self, task: Taskfile) -> Transfer:
        if self._address_28(task) >= self.sectors:
            raise Abort(Error.IDNF)
        return _nothing(Result())

    def _succeed(self, _: Taskfile) -> Transfer:
        return _nothing(Result())

    def _smart(self, task: Taskfile) -> Transfer:
        feature = task.feature & 0xFF
        if (task.lba >> 8 & 0xFFFF) != 0xC24F:
            raise Abort
        if feature in (0xD0, 0xD1, 0xD5):
            data = self.smart.read(feature, task.lba & 0xFF, task.count & 0xFF)
            if data is None:
                raise Abort
            return _answer(data)
        if not self.smart.control(feature, task.count & 0xFF, task.lba & 0xFF):
            raise Abort
        if feature == 0xDA:  # RETURN STATUS: C24F means healthy
            return _nothing(Result(lba=task.lba))
        return _nothing(Result())


_COMMANDS: Final[dict[int, Callable[[AtaDisk, Taskfile], Transfer]]] = {
    0x06: AtaDisk._data_set_management,
    0x27: AtaDisk._native_max, 0xF8: AtaDisk._native_max,
    0x40: AtaDisk._verify, 0x41: AtaDisk._verify, 0x42: AtaDisk._verify,
    0x70: AtaDisk._seek,
    0x91: AtaDisk._initialize_parameters,
    0xB0: AtaDisk._smart,
    0xC6: AtaDisk._set_multiple,
    0xE0: AtaDisk._succeed, 0xE1: AtaDisk._succeed, 0xE2: AtaDisk._succeed,
    0xE3: AtaDisk._succeed, 0xE6: AtaDisk._succeed,
    0x94: AtaDisk._succeed, 0x95: AtaDisk._succeed, 0x96: AtaDisk._succeed,
    0x97: AtaDisk._succeed, 0x99: AtaDisk._succeed,
    0xE5: AtaDisk._check_power, 0x98: AtaDisk._check_power,
    0xE7: AtaDisk._flush, 0xEA: AtaDisk._flush,
    0xEC: AtaDisk._identify,
    0xEF: AtaDisk._set_features,
}  # fmt: skip
