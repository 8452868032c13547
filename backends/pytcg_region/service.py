"""`RegionService`: takes hot blocks, has regions compiled, hands them to the guest.

A thread for each compiler process: it waits for hot blocks, lets native code copy the hottest into
a request, and asks memory, disk and at last its process for the code. It never computes for long,
so that the guest's calls into Python do not wait for the GIL.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import weakref
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Protocol

from pytcg.exec import layout, regions
from pytcg.softmmu.ram import HostBuffer
from pytcg_llvm.cache import ObjectCache
from pytcg_region.compile import SEPARATOR, UNFIT, compile_region, region_name
from pytcg_region.request import SEED_ONLY, SHAPE_ROW, Request
from pytcg_threaded.engine import ThreadedEngine
from pytcg_threaded.worker import WorkerError, WorkerProcess

_HITS = layout.TB.offset("hits")
_REGION = struct.Struct("<QQII")
_MEMBER = struct.Struct("<QQQII")
_CHUNK = 1 << 20
_SHAPES = 4
"""Shapes that are kept for a seed."""
_MEMORY = 256
"""Reports of hot blocks that are remembered."""
_PATIENCE = 30.0
"""Seconds without a hot block after which a compiler process is let go."""


class StateFields(Protocol):
    """The processor's state by field name."""

    def get(self, name: str, index: int = 0) -> int: ...

    def set(self, name: str, value: int, index: int = 0) -> None: ...


class Processor(Protocol):
    """What the service needs of a processor."""

    @property
    def state(self) -> StateFields: ...

    address: int
    buffers: dict[str, HostBuffer]

    def poke(self, *, stop: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled region: its address and the numbers of its entry blocks."""

    address: int
    entries: tuple[int, ...]


class RegionCode:
    """Compiled regions of this process by key, before them those on disk. Thread-safe."""

    def __init__(self, engine: ThreadedEngine):
        self.engine = engine
        self.cache = ObjectCache()
        self._known: dict[str, Code | None] = {}
        self._shapes: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> tuple[bool, Code | None]:
        """Whether a region's fate is known, and its code; None if it is unfit."""
        with self._lock:
            if key in self._known:
                return True, self._known[key]
            made = self.cache.load(key)
            return (False, None) if made is None else (True, self._link(key, made))

    def add(self, key: str, made: bytes) -> Code | None:
        """Keep and link what a compiler made."""
        with self._lock:
            if key not in self._known:
                self.cache.store(key, made)
                self._link(key, made)
            return self._known[key]

    def shapes(self, seed_key: str) -> list[bytes]:
        """What regions around a seed have been compiled, the last one first."""
        with self._lock:
            if seed_key not in self._shapes:
                kept = self.cache.load(f"s{seed_key}") or b""
                self._shapes[seed_key] = _split_shapes(kept)
            return list(self._shapes[seed_key])

    def add_shape(self, seed_key: str, shape: bytes) -> None:
        """Remember the shape of a compiled region."""
        others = [other for other in self.shapes(seed_key) if other != shape]
        with self._lock:
            self._shapes[seed_key] = kept = [shape, *others][:_SHAPES]
            body = b"".join(len(one).to_bytes(4, "little") + one for one in kept)
            self.cache.store(f"s{seed_key}", body)

    def _link(self, key: str, made: bytes) -> Code | None:
        code = None
        if made != UNFIT:
            directory, image = made.split(SEPARATOR, 1)
            name = region_name(key)
            found = self.engine.linker.add(name, [image], [name])
            code = Code(found[name], tuple(map(int, directory.split())))
        self._known[key] = code
        return code


def _split_shapes(body: bytes) -> list[bytes]:
    """The shapes of a file; the object cache has checked that it is as it was written."""
    found = []
    while body:
        length = int.from_bytes(body[:4], "little")
        found.append(body[4 : 4 + length])
        body = body[4 + length :]
    return found


@dataclass(slots=True)
class RegionStats:
    """What a service has done."""

    compiled: int = 0
    reused: int = 0
    unfit: int = 0
    failed: int = 0
    seconds: float = 0.0  # of compiling
    insns: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Pending:
    """The last reports of hot blocks, and where the ring has been read to.

    What was hot is forgotten when the guest has gone on to other things.
    """

    reports: deque[int] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    tail: int = 0


class Room:
    """Memory that native code writes requests to, and reads shapes from; one for each thread."""

    def __init__(self) -> None:
        self.request = HostBuffer(-(-regions.REQUEST_BYTES // 4096) * 4096)
        self.shape = HostBuffer(-(-regions.MAX_BLOCKS * SHAPE_ROW // 4096) * 4096)


class RegionService:
    """Regions for one processor; ends with it."""

    def __init__(self, processor: Processor, code: RegionCode, *, workers: int | None = None):
        self._processor = weakref.ref(processor, lambda _: self.close())
        self._code = code
        self._engine = code.engine
        self._identity = code.engine.identity
        self._rings = HostBuffer(2 * 8 * regions.RING_SIZE)
        self._chunk = HostBuffer(_CHUNK)
        self._chunks = [self._chunk]
        self._used = 0
        self._pending = _Pending()
        self._handed: deque[tuple[int, tuple[int, ...]]] = deque()
        """Regions in the ready ring: where in it, and the blocks they can be entered at."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._workers = workers or max(1, min((os.cpu_count() or 1) - 1, 4))
        self.stats = RegionStats()
        processor.state.set("hot_ring", self._rings.address)
        processor.state.set("ready_ring", self._rings.address + 8 * regions.RING_SIZE)
        processor.state.set("hot_sleeps", 1)

    def close(self) -> None:
        """End the threads and their processes."""
        self._closed = True
        self._wake.set()

    def wake(self) -> None:
        """There are hot blocks: called from native code, in the guest's thread."""
        if not self._threads and not self._closed:
            self._threads = [threading.Thread(target=self._serve, daemon=True, name="regions")
                             for _ in range(self._workers)]  # fmt: skip
            for thread in self._threads:
                thread.start()
        self._wake.set()

    def account(self) -> str:
        """A line of figures, for `-d stats`."""
        s = self.stats
        return (f"regions compiled {s.compiled} reused {s.reused} unfit {s.unfit} failed {s.failed}"
                f" insns {s.insns} compile seconds {s.seconds:.1f} bytes {s.bytes}")

    # The threads -------------------------------------------------------------------------------

    def _serve(self) -> None:
        process: WorkerProcess | None = None
        room = Room()
        try:
            while not self._closed:
                hot = self._next()
                if hot is None:
                    if not self._wake.wait(_PATIENCE) and process is not None:
                        process.close()
                        process = None
                    self._wake.clear()
                    continue
                process = self._one(hot, room, process)
        finally:
            if process is not None:
                process.close()

    def _next(self) -> int | None:
        """The block that is reported most, of late."""
        processor = self._processor()
        if processor is None:
            return None
        state, arena = processor.state, processor.buffers["arena"]
        with self._lock:
            pending = self._pending
            self._drain(state)
            waiting = self._waiting(state)
            for block, _ in Counter(pending.reports).most_common():
                at = block - arena.address
                hits = int.from_bytes(arena.view[at + _HITS : at + _HITS + 4], "little")
                kept = [other for other in pending.reports if other != block]
                pending.reports = deque(kept, _MEMORY)
                if hits >= 1 << (regions.HOT_BITS - 1) and block not in waiting:
                    return block  # else dropped, or in a region meanwhile
            state.set("hot_sleeps", 1)
            if state.get("hot_head") != pending.tail:
                self._wake.set()
            return None

    def _waiting(self, state: StateFields) -> set[int]:
        """The blocks whose region is there, but not yet in place."""
        taken = state.get("ready_tail")
        while self._handed and (taken - self._handed[0][0]) & 0xFFFF_FFFF <= regions.RING_SIZE:
            self._handed.popleft()
        return {tb for _, tbs in self._handed for tb in tbs}

    def _drain(self, state: StateFields) -> None:
        head = state.get("hot_head")
        pending = self._pending
        waiting = (head - pending.tail) & 0xFFFF_FFFF
        if waiting > regions.RING_SIZE:
            pending.tail = (head - regions.RING_SIZE) & 0xFFFF_FFFF
            waiting = regions.RING_SIZE
        for _ in range(waiting):
            at = 8 * (pending.tail % regions.RING_SIZE)
            block = int.from_bytes(self._rings.view[at : at + 8], "little")
            pending.reports.append(block)
            pending.tail = (pending.tail + 1) & 0xFFFF_FFFF

    def _one(self, hot: int, room: Room, process: WorkerProcess | None) -> WorkerProcess | None:
        """Have a hot block's region compiled, or find it, and put it in place."""
        processor = self._processor()
        if processor is None:
            return process
        seed = self._follow(processor, hot, SEED_ONLY, room)
        if seed is None:
            return process
        seed_key = seed.key(self._identity, "seed")
        for shape in self._code.shapes(seed_key):
            request = self._follow(processor, hot, shape, room)
            if request is not None:
                known, code = self._code.find(request.key(self._identity, "region"))
                if known:
                    self.stats.reused += 1
                    if code is not None:
                        self._ready(request, code)
                    return process
        size = self._engine.call("region_grow", processor.address, hot, room.request.address)
        del processor
        if size:
            process = self._compile(bytes(room.request.view[:size]), seed_key, process)
        return process

    def _follow(self, processor: Processor, hot: int, shape: bytes, room: Room) -> Request | None:
        """The request of a known shape at a hot block, if its blocks are there."""
        room.shape.view[: len(shape)] = shape
        size = self._engine.call("region_follow", processor.address, hot, room.request.address,
                                 room.shape.address, len(shape) // SHAPE_ROW)  # fmt: skip
        return Request(room.request.view[:size]) if size else None

    def _compile(self, data: bytes, seed_key: str,
                 process: WorkerProcess | None) -> WorkerProcess | None:  # fmt: skip
        request = Request(data)
        key = request.key(self._identity, "region")
        known, code = self._code.find(key)
        if not known:
            began = time.perf_counter()
            try:
                process = process or WorkerProcess("pytcg_region.worker")
                made = process.ask([key, data.hex()])
            except WorkerError:
                self.stats.failed += 1
                if process is not None:
                    process.close()
                return None
            self._account(request, made, time.perf_counter() - began)
            code = self._code.add(key, made)
        self._code.add_shape(seed_key, request.shape())
        if code is not None:
            self._ready(request, code)
        return process

    def _account(self, request: Request, made: bytes, seconds: float) -> None:
        with self._lock:
            stats = self.stats
            stats.compiled += 1
            stats.unfit += made == UNFIT
            stats.seconds += seconds
            stats.insns += sum(len(block.insns) for block in request.blocks)
            stats.bytes += len(made)

    # Handing over ------------------------------------------------------------------------------

    def _ready(self, request: Request, code: Code) -> None:
        """Put a region where the guest's thread takes it from."""
        processor = self._processor()
        if processor is None:
            return
        with self._lock:
            state = processor.state
            head = state.get("ready_head")
            if (head - state.get("ready_tail")) & 0xFFFF_FFFF >= regions.RING_SIZE:
                return
            at = 8 * (regions.RING_SIZE + head % regions.RING_SIZE)
            address = self._write_region(request, code)
            self._rings.view[at : at + 8] = address.to_bytes(8, "little")
            head = (head + 1) & 0xFFFF_FFFF
            self._handed.append((head, tuple(request.tbs[entry] for entry in code.entries)))
            state.set("ready_head", head)
        processor.poke()

    def _write_region(self, request: Request, code: Code) -> int:
        count = len(request.tbs)
        size = layout.REGION.offset("members") + count * _MEMBER.size
        if self._used + size > _CHUNK:
            self._chunk, self._used = HostBuffer(_CHUNK), 0
            self._chunks.append(self._chunk)
        start = self._used
        self._used += -(-size // 8) * 8
        _REGION.pack_into(self._chunk.view, start, code.address, request.flushes, count, 0)
        entry = {block: number + 1 for number, block in enumerate(code.entries)}
        for number, tb in enumerate(request.tbs):
            at = start + layout.REGION.offset("members") + number * _MEMBER.size
            _MEMBER.pack_into(self._chunk.view, at, tb, 0, 0, entry.get(number, 0), 0)
        return self._chunk.address + start

    # At once -----------------------------------------------------------------------------------

    def compile_now(self, processor: Processor, block: int) -> None:
        """Compile a block's region in this process and put it in place: ``tier=jit``."""
        request = HostBuffer(-(-regions.REQUEST_BYTES // 4096) * 4096)
        size = self._engine.call("region_grow", processor.address, block, request.address)
        if size == 0:
            return
        data = bytes(request.view[:size])
        parsed = Request(data)
        key = parsed.key(self._identity, "region")
        known, code = self._code.find(key)
        if not known:
            code = self._code.add(key, compile_region(data, key))
        if code is not None:
            self._ready(parsed, code)
            self._engine.call("region_install", processor.address)


_codes: dict[int, RegionCode] = {}


def shared_service(processor: Processor) -> RegionService:
    """A service for a processor, on the process's shared code."""
    engine = ThreadedEngine.shared()
    code = _codes.setdefault(id(engine), RegionCode(engine))
    return RegionService(processor, code)
