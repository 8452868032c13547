"""`RegionService`: takes hot blocks, has regions compiled, hands them to the guest.

One thread *finds*: it takes the reports of hot blocks, and puts in place those regions that memory
or disk have. What is not there and stays hot is *wanted*: a thread for each compiler process lets
native code copy the hottest into a request and asks its process for the code. None of them
computes for long, so that the guest's calls into Python do not wait for the GIL.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytcg.exec import layout, regions
from pytcg.exec.room import USUAL
from pytcg.softmmu.ram import BufferPart, HostBuffer
from pytcg_llvm.link import Image, NoRoom
from pytcg_region.kept import SEPARATOR, SHAPE_ROW, UNFIT, region_name
from pytcg_threaded.engine import ThreadedEngine
from pytcg_threaded.worker import StaleSources, WorkerError, WorkerProcess

if TYPE_CHECKING:  # loaded when a block is hot
    from pytcg_region.request import Request

_HITS, _COUNT = layout.TB.offset("hits"), layout.TB.offset("count")
_REGION = struct.Struct("<QQII")
_MEMBER = struct.Struct("<QQQII")
_CHUNK = 1 << 20
_SHAPE, _REGION_KIND = "shapes", "regions"
"""Kinds of objects in the cache."""
_SHAPES = 4
"""Shapes that are kept for a seed."""
_MEMORY = 256
"""Reports of wanted blocks that are remembered."""
_FIRST = (1 << regions.HOT_BITS) - regions.FIRST_HITS
"""Runs after which a block is reported first."""
_ENOUGH = 1 << 17
"""Runs after which a block is worth a compilation."""
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
    buffers: dict[str, HostBuffer | BufferPart]
    inside: int
    """Runs of guest code that are under way: while there is none, nobody is in a region."""

    def poke(self, *, stop: bool = False) -> None: ...

    def install_stencils(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled region: its key, its address and the numbers of its entry blocks."""

    key: str
    address: int
    entries: tuple[int, ...]


class RegionCode:
    """Compiled regions of this process by key, before them those on disk. Thread-safe.

    When their memory is full, all processors are told to leave them: each drops all its blocks
    before it goes on (`leave_regions`). It is emptied once none can be in a region any more. Who
    runs nothing need not be waited for, as it drops them before it enters guest code again.
    """

    def __init__(self, engine: ThreadedEngine, size: int = USUAL.regions):
        self.engine = engine
        self.cache = engine.cache
        self.linker = engine.linker.part(size)
        self.emptied = 0
        """How often the memory was."""
        self.loaded = 0
        """Regions that were found on disk."""
        self._wanted = 0  # how often it should have been
        self._processors: list[weakref.ref[Processor]] = []
        self._known: dict[str, Code | None] = {}
        self._shapes: dict[int, list[bytes] | None] = {}  # None: on disk, not read yet
        self._lock = threading.Lock()
        self.seeds = HostBuffer(8 << regions.SEED_BITS)
        for name in self.cache.names(_SHAPE):
            self._know(int(name.removeprefix(f"{_SHAPE}/"), 16))

    def attach(self, processor: Processor) -> None:
        """It may run regions from now on."""
        with self._lock:
            self._processors = [one for one in self._processors if one() is not None]
            self._processors.append(weakref.ref(processor))
            processor.state.set("code_wanted", self._wanted)
            processor.state.set("code_left", self._wanted)

    def find(self, key: str) -> tuple[bool, Code | None]:
        """Whether a region's fate is known, and its code; None if it is unfit, or has no room."""
        with self._lock:
            if key in self._known:
                return True, self._known[key]
            made = self.cache.load(f"{_REGION_KIND}/{key}")
            if made is None:
                return False, None
            self.loaded += 1
            return True, self._link(key, made)

    def add(self, key: str, made: bytes) -> Code | None:
        """Keep and link what a compiler made."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            self.cache.store(f"{_REGION_KIND}/{key}", made)
            return self._link(key, made)

    def shapes(self, seed: int) -> list[bytes]:
        """What regions around a seed have been compiled, the last one first."""
        with self._lock:
            if seed not in self._shapes:
                return []
            kept = self._shapes[seed]
            if kept is None:
                kept = _split_shapes(self.cache.load(self._shape_name(seed)) or b"")
                self._shapes[seed] = kept
            return list(kept)

    def add_shape(self, seed: int, shape: bytes) -> None:
        """Remember the shape of a compiled region."""
        others = [other for other in self.shapes(seed) if other != shape]
        with self._lock:
            if seed not in self._shapes:
                self._know(seed)
            kept = [shape, *others][:_SHAPES]
            if seed in self._shapes:  # else there are too many: it is found in another process
                self._shapes[seed] = kept
            body = b"".join(len(one).to_bytes(4, "little") + one for one in kept)
            self.cache.store(self._shape_name(seed), body)

    def _shape_name(self, seed: int) -> str:
        return f"{_SHAPE}/{seed:016x}"

    def _know(self, seed: int) -> None:
        """Enter a seed into the table for native code (`seed_known`), unless it is half full."""
        if 2 * len(self._shapes) > 1 << regions.SEED_BITS:
            return
        self._shapes[seed] = None
        table, at = self.seeds.view, seed >> 64 - regions.SEED_BITS
        while any(table[8 * at : 8 * at + 8]):
            at = (at + 1) % (1 << regions.SEED_BITS)
        table[8 * at : 8 * at + 8] = seed.to_bytes(8, "little")

    def _link(self, key: str, made: bytes) -> Code | None:
        """Make a region known; what has no room until all have left stays threaded code."""
        code = None
        if made != UNFIT:
            directory, image = made.split(SEPARATOR, 1)
            try:
                found = self._add(Image.from_bytes(image))
                code = Code(key, found[region_name(key)], tuple(map(int, directory.split())))
            except NoRoom:
                return None
        self._known[key] = code
        return code

    def _add(self, image: Image) -> dict[str, int]:
        """Link an image; NoRoom."""
        if self._has_left():
            with contextlib.suppress(NoRoom):
                return self.linker.add(image)
            self._leave()
        if not self._has_left():
            raise NoRoom("until all processors have left it")
        return self.linker.add(image)

    def _leave(self) -> None:
        """The memory is full: have all processors leave it."""
        self._wanted += 1
        self._known.clear()
        self._shapes = dict.fromkeys(self._shapes)
        for reference in self._processors:
            processor = reference()
            if processor is not None:
                processor.state.set("code_wanted", self._wanted)
                processor.poke()

    def _has_left(self) -> bool:
        """Whether the memory can be used; empties it if that was wanted and nobody is in it."""
        if self.emptied == self._wanted:
            return True
        for reference in self._processors:
            processor = reference()
            # ``inside`` after `code_wanted`: who enters meanwhile sees that.
            if (processor is not None and processor.inside
                    and processor.state.get("code_left") != self._wanted):  # fmt: skip
                return False
        self.linker.clear()
        self.emptied = self._wanted
        return True


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


class Room:
    """Memory that native code writes requests to, and reads shapes from; one for each thread."""

    def __init__(self) -> None:
        self.request = HostBuffer(-(-regions.REQUEST_BYTES // 4096) * 4096)
        self.shape = HostBuffer(-(-regions.MAX_BLOCKS * SHAPE_ROW.size // 4096) * 4096)


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
        self._flushes = 0
        """Whole flushes when the chunks were begun."""
        self._tail = 0
        """Where the hot ring has been read to."""
        self._wanted: deque[int] = deque(maxlen=_MEMORY)
        """The last reports of wanted blocks; forgotten when the guest has gone on to others."""
        self._work = threading.Condition()
        self._handed: deque[tuple[int, tuple[int, ...]]] = deque()
        """Regions in the ready ring: where in it, and the blocks they can be entered at."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._workers = workers or max(1, min((os.cpu_count() or 1) - 1, 4))
        self.stats = RegionStats()
        self.show: Callable[[Request, str], None] | None = None
        """Called with each region that is put in place, and its key (`dump`)."""
        processor.state.set("hot_ring", self._rings.address)
        processor.state.set("ready_ring", self._rings.address + 8 * regions.RING_SIZE)
        processor.state.set("seeds", code.seeds.address)
        code.attach(processor)
        processor.state.set("hot_sleeps", 1)

    def close(self) -> None:
        """End the threads and their processes."""
        self._closed = True
        self._wake.set()
        with self._work:
            self._work.notify_all()

    def wake(self) -> None:
        """There are hot blocks: called from native code, in the guest's thread."""
        if not self._threads and not self._closed:
            jobs = [self._find, *[self._serve] * self._workers]
            self._threads = [threading.Thread(target=job, daemon=True, name="regions")
                             for job in jobs]  # fmt: skip
            for thread in self._threads:
                thread.start()
        self._wake.set()

    def account(self) -> str:
        """A line of figures, for `-d stats`."""
        s, code = self.stats, self._code
        return (f"regions compiled {s.compiled} ({s.insns} instructions, {s.bytes} bytes,"
                f" {s.seconds:.1f} s) reused {s.reused} from disk {code.loaded} unfit {s.unfit}"
                f" failed {s.failed} code memory {code.linker.used} emptied {code.emptied}")

    # Finding -----------------------------------------------------------------------------------

    def _find(self) -> None:
        room = Room()
        while not self._closed:
            for block, count in self._reports():
                self._look_for(block, count, room)

    def _look_for(self, block: int, count: int, room: Room) -> None:
        """Put a block's region in place, or want it as often as it was reported."""
        processor = self._processor()
        if processor is None or _runs(processor, block) < _FIRST:
            return  # in a region meanwhile
        if self._reuse(processor, block, room):
            return
        if _runs(processor, block) >= _ENOUGH:
            with self._work:
                self._wanted.extend([block] * count)
                self._work.notify()

    def _reports(self) -> list[tuple[int, int]]:
        """Wait for reports of hot blocks: each block and how often it was reported."""
        while not self._closed:
            processor = self._processor()
            if processor is None:
                break
            state = processor.state
            found = self._drain(state)
            if found:
                with self._lock:
                    waiting = self._waiting(state)
                return [(block, n) for block, n in Counter(found).most_common()
                        if block not in waiting]  # fmt: skip
            state.set("hot_sleeps", 1)
            if state.get("hot_head") != self._tail:
                continue
            del processor, state
            self._wake.wait()
            self._wake.clear()
        return []

    def _drain(self, state: StateFields) -> list[int]:
        """The reports in the ring; the oldest are lost where it has overflown."""
        head = state.get("hot_head")
        count = (head - self._tail) & 0xFFFF_FFFF
        first = head - min(count, regions.RING_SIZE)
        self._tail = head
        places = (8 * (number % regions.RING_SIZE) for number in range(first, head))
        return [int.from_bytes(self._rings.view[at : at + 8], "little") for at in places]

    def _waiting(self, state: StateFields) -> set[int]:
        """The blocks whose region is there, but not yet in place."""
        taken = state.get("ready_tail")
        while self._handed and (taken - self._handed[0][0]) & 0xFFFF_FFFF <= regions.RING_SIZE:
            self._handed.popleft()
        return {tb for _, tbs in self._handed for tb in tbs}

    def _reuse(self, processor: Processor, block: int, room: Room) -> bool:
        """Put a block's region in place if there is one in memory or on disk."""
        for shape in self._code.shapes(self._engine.call("seed_hash", processor.address, block)):
            request = self._follow(processor, block, shape, room)
            if request is not None:
                known, code = self._code.find(request.key(self._identity, "region"))
                if known:
                    self._put(request, code, reused=True)
                    return True
        return False

    # Compiling ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        process: WorkerProcess | None = None
        room = Room()
        try:
            while not self._closed:
                job = self._engine.next_stencils()
                if job is not None:
                    process = self._stencils(job, process)
                hot = self._next()
                if hot is not None:
                    process = self._one(hot, room, process)
                if job is not None or hot is not None:
                    continue
                with self._work:
                    idle = not self._wanted and not self._work.wait(_PATIENCE)
                if idle and process is not None:
                    process.close()
                    process = None
        finally:
            if process is not None:
                process.close()

    def _stencils(self, job: list[str], process: WorkerProcess | None) -> WorkerProcess | None:
        """Have stencils compiled, and let native code know them."""
        process, made = self._ask(job, process)
        processor = self._processor()
        if made is not None:
            self._engine.add_stencils(made)
            if processor is not None:
                processor.install_stencils()
        return process

    def _ask(self, job: list[str], process: WorkerProcess | None
             ) -> tuple[WorkerProcess | None, bytes | None]:  # fmt: skip
        """What a compiler process makes of a job; neither of them if that fails."""
        try:
            process = process or WorkerProcess("pytcg_region.worker")
            return process, process.ask(job)
        except WorkerError as error:
            self.stats.failed += 1
            if isinstance(error, StaleSources):
                self.close()  # what is compiled is kept
            if process is not None:
                process.close()
            return None, None

    def _next(self) -> int | None:
        """The block that is wanted most, of late."""
        processor = self._processor()
        if processor is None:
            return None
        with self._lock:
            waiting = self._waiting(processor.state)
        with self._work:
            for block, _ in Counter(self._wanted).most_common():
                kept = [other for other in self._wanted if other != block]
                self._wanted = deque(kept, _MEMORY)
                if block not in waiting and _runs(processor, block) >= _ENOUGH:
                    return block  # else dropped, or in a region meanwhile
        return None

    def _one(self, hot: int, room: Room, process: WorkerProcess | None) -> WorkerProcess | None:
        """Have a hot block's region compiled and put it in place."""
        processor = self._processor()
        if processor is None:
            return process
        seed = self._engine.call("seed_hash", processor.address, hot)
        size = self._engine.call("region_grow", processor.address, hot, room.request.address)
        del processor
        if size:
            process = self._compile(bytes(room.request.view[:size]), seed, process)
        return process

    def _follow(self, processor: Processor, hot: int, shape: bytes, room: Room) -> Request | None:
        """The request of a known shape at a hot block, if its blocks are there."""
        from pytcg_region.request import Request

        room.shape.view[: len(shape)] = shape
        size = self._engine.call("region_follow", processor.address, hot, room.request.address,
                                 room.shape.address, len(shape) // SHAPE_ROW.size)  # fmt: skip
        return Request(room.request.view[:size]) if size else None

    def _compile(self, data: bytes, seed: int,
                 process: WorkerProcess | None) -> WorkerProcess | None:  # fmt: skip
        from pytcg_region.request import Request

        request = Request(data)
        key = request.key(self._identity, "region")
        known, code = self._code.find(key)
        if not known:
            began = time.perf_counter()
            process, made = self._ask(["region", key, data.hex()], process)
            if made is None:
                return process
            self._account(request, made, time.perf_counter() - began)
            code = self._code.add(key, made)
        self._code.add_shape(seed, request.shape())
        self._put(request, code, reused=known)  # another process may have compiled it meanwhile
        return process

    def _account(self, request: Request, made: bytes, seconds: float) -> None:
        with self._lock:
            stats = self.stats
            stats.compiled += 1
            stats.unfit += made == UNFIT
            stats.seconds += seconds
            stats.insns += request.insns
            stats.bytes += len(made)

    # Handing over ------------------------------------------------------------------------------

    def _put(self, request: Request, code: Code | None, *, reused: bool) -> None:
        """Put a region in place unless it was found unfit."""
        if code is not None:
            self._ready(request, code, reused=reused)
        else:
            self.stats.reused += reused

    def _ready(self, request: Request, code: Code, *, at_once: bool = False,
               reused: bool = False) -> bool:  # fmt: skip
        """Put a region where the guest's thread takes it from, unless it has it."""
        processor = self._processor()
        if processor is None:
            return False
        seed = request.tbs[0]
        with self._lock:
            state = processor.state
            head = state.get("ready_head")
            if (head - state.get("ready_tail")) & 0xFFFF_FFFF >= regions.RING_SIZE:
                return False
            if seed in self._waiting(state) or (_runs(processor, seed) < _FIRST and not at_once):
                return False
            at = 8 * (regions.RING_SIZE + head % regions.RING_SIZE)
            if state.get("whole_flushes") != self._flushes and head == state.get("ready_tail"):
                self._flushes = state.get("whole_flushes")
                self._chunk, self._chunks, self._used = self._chunks[0], self._chunks[:1], 0
            address = self._write_region(request, code)
            self._rings.view[at : at + 8] = address.to_bytes(8, "little")
            head = (head + 1) & 0xFFFF_FFFF
            self._handed.append((head, tuple(request.tbs[entry] for entry in code.entries)))
            self.stats.reused += reused
            state.set("ready_head", head)
        processor.poke()
        if self.show is not None:
            self.show(request, code.key)
        return True

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
        from pytcg_region.compile import compile_region
        from pytcg_region.request import Request

        request = HostBuffer(-(-regions.REQUEST_BYTES // 4096) * 4096)
        size = self._engine.call("region_grow", processor.address, block, request.address)
        if size == 0:
            return
        data = bytes(request.view[:size])
        parsed = Request(data)
        key = parsed.key(self._identity, "region")
        known, code = self._code.find(key)
        if not known:
            began = time.perf_counter()
            made = compile_region(data, key)
            self._account(parsed, made, time.perf_counter() - began)
            code = self._code.add(key, made)
        if code is not None:
            self._ready(parsed, code, at_once=True)
            self._engine.call("region_install", processor.address)


def _runs(processor: Processor, block: int) -> int:
    """How often a block has run since it was made, or since it is part of a region."""
    arena, env = processor.buffers["arena"], processor.buffers["env"]
    tb = arena.view[block - arena.address :]
    hits, count = (int.from_bytes(tb[at : at + 4], "little") for at in (_HITS, _COUNT))
    low = env.view[count - layout.EXEC_ENV.origin :]
    return (hits + int.from_bytes(low[:2], "little") - regions.FIRST_HITS) & 0xFFFF_FFFF


_codes: dict[int, RegionCode] = {}


def shared_service(processor: Processor, size: int) -> RegionService:
    """A service for a processor, on the process's shared code; who comes first says its bytes."""
    engine = ThreadedEngine.shared()
    code = _codes.get(id(engine))
    if code is None:
        code = _codes.setdefault(id(engine), RegionCode(engine, size))
    return RegionService(processor, code)
