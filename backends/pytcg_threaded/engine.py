"""`ThreadedEngine`: the compiled core and the handlers compiled so far, linked into this process.

On disk: the core's images, packs of handlers and of stencils. A first run compiles the core and the
seed list (the forms that a boot meets) in worker processes; forms met later are compiled in the
process, a batch at a time, and make a pack of their own. Many packs are joined to one at a start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pytcg.exec.stitch import HEAD_KEY, HOP_KEY
from pytcg_llvm.cache import ObjectCache
from pytcg_llvm.link import Image, Linker
from pytcg_threaded.identity import source_identity
from pytcg_threaded.packs import HandlerPack, StencilPacks, join_handlers, join_stencils
from pytcg_threaded.worker import run_jobs

if TYPE_CHECKING:  # loaded when there is something to compile
    from pytcg.ir.blocks import Function
    from pytcg_native.compiler import Program

CORE = "core/all"
HANDLERS, STENCILS = "handlers", "stencils"
"""Kinds of objects in the cache."""
_CORE_SHARES = 6
"""Modules the native helpers are compiled in: enough to fill several workers evenly."""
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


def _core_jobs() -> list[list[str]]:
    return [["core", str(n), str(_CORE_SHARES)] for n in range(_CORE_SHARES)]


def _compile(job: list[str]) -> bytes:
    """Do a job in this process."""
    from pytcg_threaded.jobs import run_job

    return run_job(job)


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
                cache = ObjectCache(source_identity())
                cls._shared = cls(cache, progress or terminal_progress())
            return cls._shared

    def __init__(self, cache: ObjectCache, progress: Progress):
        self.cache = cache
        self.identity = source_identity()
        self.linker = Linker()
        self.forms: dict[int, tuple[int, int]] = {}  # (code, effects) by key
        self._stencils = StencilPacks()
        self.stencils = self._stencils.addresses
        self._stencils_at_once = False
        self._form_lock = threading.Lock()
        self._functions: dict[str, Callable[..., int]] = {}
        self._progress = progress
        self._load()

    # Loading and compiling ---------------------------------------------------------------------

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
        handlers = self._packs(HANDLERS, join_handlers)
        core = self.cache.load(CORE)
        jobs = _core_jobs() if core is None else []
        shares = len(jobs)
        seeds = [] if handlers else list(self._seeds())
        batches = [seeds[i : i + _BATCH] for i in range(0, len(seeds), _BATCH)]
        jobs += [["forms", *(f"{key:x}" for key in batch)] for batch in batches]
        made = self._run_jobs(jobs, "handlers (first run)") if jobs else []
        if core is None:
            core = Image.join(map(Image.from_bytes, made[:shares])).to_bytes()
            self.cache.store(CORE, core)
        for pack in made[shares:]:
            self._store_pack(HANDLERS, pack)
            handlers.append(pack)
        self.linker.add(Image.from_bytes(core))
        for pack in handlers:
            self._link(HandlerPack.from_bytes(pack))
        for pack in self._packs(STENCILS, join_stencils):
            self._stencils.add(pack)

    def _packs(self, kind: str, join: Callable[[Iterable[bytes]], bytes]) -> list[bytes]:
        """The packs on disk; many are made one."""
        for _ in range(3):  # another process may do so meanwhile
            packs = {name: self.cache.load(name) for name in self.cache.names(kind)}
            if None not in packs.values():
                break
        found = [pack for pack in packs.values() if pack is not None]
        if len(found) <= _MANY:
            return found
        joined = join(found)
        kept = self._store_pack(kind, joined)
        for name in packs.keys() - {kept}:
            self.cache.remove(name)
        return [joined]

    @staticmethod
    def _seeds() -> Iterable[int]:
        """Keys of the forms worth compiling before they are met."""
        import importlib.resources

        from pytcg_x86.decode.seeds import parse_seeds

        if os.environ.get("PYTCG_NO_SEEDS"):  # how bench.seeds finds out what is met
            return []
        with contextlib.suppress(FileNotFoundError):
            text = importlib.resources.files("pytcg_x86.decode").joinpath("seeds.txt").read_text()
            return parse_seeds(text)
        return []

    def _store_pack(self, kind: str, pack: bytes) -> str:
        name = f"{kind}/{self.cache.key(pack)[:24]}"
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
                pack = _compile(["forms", *(f"{key:x}" for key in batch)])
                self._store_pack(HANDLERS, pack)
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
            packs = [_compile(jobs[0])]
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
        self._store_pack(STENCILS, pack)
        self._stencils.add(pack)

    def define_native(self, function: Function, program: Program) -> int:
        """Compile a function and those of ``program`` that are not the core's; its address."""
        from pytcg_llvm.emit import emit_module
        from pytcg_llvm.host import compile_module

        with self._form_lock:
            core = self.linker.symbols
            others = [f for f in program.compile_all() if f.name not in core]
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
