"""`ThreadedEngine`: the compiled core and the handlers compiled so far, linked into this process.

On disk: the core's images, packs of handlers and of stencils. A first run compiles the core and the
seed list (the forms that a boot meets) in worker processes; forms met later are compiled in the
process, a batch at a time, and make a pack of their own. Many packs are joined to one at a start.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.resources
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pytcg.exec.stitch import HEAD_KEY, HOP_KEY
from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg.opt.pipeline import optimise
from pytcg_llvm.cache import ObjectCache
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image, Linker
from pytcg_native.compiler import Program
from pytcg_threaded.jobs import CORE_SHARES, run_job, source_identity
from pytcg_threaded.packs import HandlerPack, join_handlers
from pytcg_threaded.stencils import StencilPacks, join_packs
from pytcg_threaded.worker import run_jobs

_BATCH = 48
_MANY = 8
"""Packs on disk that are joined to one."""

Progress = Callable[[str], None]


def terminal_progress() -> Progress:
    """Writes one changing line on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        return lambda text: None

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if text else "\r\x1b[K")
        sys.stderr.flush()

    return show


def _stencil_job(keys: list[int]) -> list[str]:
    return ["stencils", *(f"{key:x}" for key in keys)]


class ThreadedEngine:
    """Native code for the x86 guest. One a process (`shared`): host code is the same for all."""

    name = "threaded"
    x87_control = 0x37F  # a process's own on x86-64 (System V ABI)
    _shared: ThreadedEngine | None = None
    _lock = threading.Lock()

    @classmethod
    def shared(cls, progress: Progress | None = None) -> ThreadedEngine:
        """The process's engine, made on first use."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls(ObjectCache(), progress or terminal_progress())
            return cls._shared

    def __init__(self, cache: ObjectCache, progress: Progress):
        self.cache = cache
        self.identity = source_identity()
        self.linker = Linker()
        if os.environ.get("PYTCG_PERF"):  # `-accel tcg,perf=on`
            self.linker.perf_map = Path(f"/tmp/perf-{os.getpid()}.map")
        self.forms: dict[int, tuple[int, int]] = {}  # (code, effects) by key
        self._stencils = StencilPacks()
        self.stencils = self._stencils.addresses
        self._stencils_at_once = False
        self._form_lock = threading.Lock()
        self._functions: dict[str, Callable[..., int]] = {}
        self._progress = progress
        self._load()

    @property
    def _handler_prefix(self) -> str:
        return f"{self.identity[:16]}-"

    @property
    def _stencil_prefix(self) -> str:
        return f"t{self.identity[:16]}-"

    # Loading and compiling ---------------------------------------------------------------------

    def _core_key(self, share: int) -> str:
        return self.cache.key(self.identity, f"core {share} of {CORE_SHARES}")

    def _run_jobs(self, jobs: list[list[str]], what: str) -> list[bytes]:
        """Have jobs done by several processes, and show how far they are."""
        started = time.monotonic()

        def report(done: int, total: int) -> None:
            seconds = time.monotonic() - started
            self._progress(f"compiling {what}: {done}/{total}, {seconds:.0f} s")

        try:
            return run_jobs(jobs, report)
        finally:
            self._progress("")

    def _load(self) -> None:
        """Link what is on disk; what a first run needs and isn't there is compiled."""
        handlers = self._packs(self._handler_prefix, join_handlers)
        core = [self.cache.load(self._core_key(n)) for n in range(CORE_SHARES)]
        missing = [n for n, image in enumerate(core) if image is None]
        jobs = [["core", str(n), str(CORE_SHARES)] for n in missing]
        seeds = [] if handlers else list(self._seeds())
        batches = [seeds[i : i + _BATCH] for i in range(0, len(seeds), _BATCH)]
        jobs += [["forms", *(f"{key:x}" for key in batch)] for batch in batches]
        made = self._run_jobs(jobs, "handlers (first run)") if jobs else []
        for n, image in zip(missing, made, strict=False):
            core[n] = image
            self.cache.store(self._core_key(n), image)
        for pack in made[len(missing) :]:
            self._store_pack(self._handler_prefix, pack)
            handlers.append(pack)
        self.linker.add(Image.join(Image.from_bytes(image) for image in core if image is not None))
        for pack in handlers:
            self._link(HandlerPack.from_bytes(pack))
        for pack in self._packs(self._stencil_prefix, join_packs):
            self._stencils.add(pack)

    def _packs(self, prefix: str, join: Callable[[Iterable[bytes]], bytes]) -> list[bytes]:
        """The packs on disk; many are made one."""
        for _ in range(3):  # another process may do so meanwhile
            packs = {name: self.cache.load(name) for name in self.cache.names(prefix)}
            if None not in packs.values():
                break
        found = [pack for pack in packs.values() if pack is not None]
        if len(found) <= _MANY:
            return found
        joined = join(found)
        kept = self._store_pack(prefix, joined)
        for name in packs.keys() - {kept}:
            self.cache.remove(name)
        return [joined]

    @staticmethod
    def _seeds() -> Iterable[int]:
        """Keys of the forms worth compiling before they are met."""
        from pytcg_x86.decode.seeds import parse_seeds

        if os.environ.get("PYTCG_NO_SEEDS"):  # how bench.seeds finds out what is met
            return []
        with contextlib.suppress(FileNotFoundError):
            text = importlib.resources.files("pytcg_x86.decode").joinpath("seeds.txt").read_text()
            return parse_seeds(text)
        return []

    def _store_pack(self, prefix: str, pack: bytes) -> str:
        name = f"{prefix}{self.cache.key(pack)[:24]}"
        self.cache.store(name, pack)
        return name

    def _link(self, pack: HandlerPack) -> None:
        if pack.effects.keys() <= self.forms.keys():
            return
        found = self.linker.add(pack.image)
        for key, effects in pack.effects.items():
            self.forms.setdefault(key, (found[pack.symbol(key)], effects))

    def compile_forms(self, keys: Iterable[int]) -> dict[int, tuple[int, int]]:
        """(code, effects) of forms, compiling those that are new."""
        with self._form_lock:
            wanted = list(keys)
            missing = [key for key in wanted if key not in self.forms]
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                pack = run_job(["forms", *(f"{key:x}" for key in batch)])
                self._store_pack(self._handler_prefix, pack)
                self._link(HandlerPack.from_bytes(pack))
            if self._stencils_at_once:
                self._compile_stencils(wanted)
            return {key: self.forms[key] for key in wanted}

    def stencil_at_once(self) -> None:
        """From now on forms have stencils as soon as they are compiled."""
        with self._form_lock:
            if not self._stencils_at_once:
                self._stencils_at_once = True
                self._compile_stencils(self.forms)

    def _without_stencils(self, keys: Iterable[int]) -> list[int]:
        """Those that weren't tried yet, and what is no form but wants a stencil."""
        return [key for key in (HEAD_KEY, HOP_KEY, *keys) if key not in self._stencils.tried]

    def _compile_stencils(self, keys: Iterable[int]) -> None:
        missing = self._without_stencils(keys)
        jobs = [_stencil_job(missing[start : start + _BATCH])
                for start in range(0, len(missing), _BATCH)]  # fmt: skip
        if len(jobs) == 1:
            packs = [run_job(jobs[0])]
        else:
            packs = self._run_jobs(jobs, "stencils") if jobs else []
        for pack in packs:
            self._add_stencils(pack)

    def next_stencils(self) -> list[str] | None:
        """A job for a compiler process: forms that have no stencil yet; None if all have."""
        with self._form_lock:
            wanted = self._without_stencils(self.forms)[:_BATCH]
            self._stencils.tried.update(wanted)
        return _stencil_job(wanted) if wanted else None

    def add_stencils(self, pack: bytes) -> None:
        """Keep what such a job has made."""
        with self._form_lock:
            self._add_stencils(pack)

    def _add_stencils(self, pack: bytes) -> None:
        self._store_pack(self._stencil_prefix, pack)
        self._stencils.add(pack)

    def define_native(self, function: Function, program: Program) -> int:
        """Compile a function and those of ``program`` that are not the core's; its address."""
        with self._form_lock:
            core = self.linker.symbols
            others = [f for f in program.compile_all() if f.name not in core]
            for one in (function, *others):
                optimise(one)
            tables = [(t.name, t.data()) for n, t in program.tables.items() if n not in core]
            image = Image.of(compile_module(emit_module([function, *others], tables)))
            return self.linker.add(image)[function.name]

    def attach(self, buffers: Iterable[object]) -> None:
        """Native code reaches all memory; nothing to do."""

    # Use ---------------------------------------------------------------------------------------

    def symbol(self, name: str) -> int:
        """Address of a native function or table."""
        return self.linker.symbols[name]

    def call(self, name: str, *args: int) -> int:
        """Call a native function with integer or pointer arguments; the GIL is dropped."""
        function = self._functions.get(name)
        if function is None:
            # Safe as long as `name` is a native of the core: its parameters are 64-bit or less.
            kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * len(args))
            function = self._functions[name] = kind(self.symbol(name))
        return function(*args)

    def callback(self, result: str, parameters: list[str],
                 function: Callable[..., int | None]) -> tuple[int, object]:  # fmt: skip
        """A host function pointer for native code, and the object that keeps it alive."""
        kinds: dict[str, Any] = {"u64": ctypes.c_uint64, "u32": ctypes.c_uint32,
                                 "i64": ctypes.c_int64, "void": None}  # fmt: skip
        made = ctypes.CFUNCTYPE(kinds[result], *[kinds[p] for p in parameters])(function)
        return ctypes.cast(made, ctypes.c_void_p).value or 0, made


@functools.cache
def _cycle_counter() -> Callable[[], int]:
    function = Function("host_cycles", [], Type.I64)
    builder = Builder(function)
    builder.ret(builder.op("cycles"))
    linker = Linker()
    found = linker.add(Image.of(compile_module(emit_module([function]))))
    # A function of our own making, without parameters; the linker keeps its memory.
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(found["host_cycles"])
    _KEPT.append(linker)
    return counter


_KEPT: list[Linker] = []


def host_cycles() -> int:
    """The host's time-stamp counter, as guest code reads it."""
    return _cycle_counter()()


@functools.cache
def tsc_frequency() -> int:
    """The host's time-stamp counter's rate in Hz, measured against the monotonic clock."""
    def once() -> tuple[int, int, int]:
        before = time.monotonic_ns()
        cycles = host_cycles()
        after = time.monotonic_ns()
        return after - before, (before + after) // 2, cycles

    def sample() -> tuple[int, int]:
        # The quickest of several: a preempted one (or the first, which links) says nothing.
        _, middle, cycles = min(once() for _ in range(16))
        return middle, cycles

    time_0, cycles_0 = sample()
    time.sleep(0.02)
    time_1, cycles_1 = sample()
    return (cycles_1 - cycles_0) * 1_000_000_000 // (time_1 - time_0)
