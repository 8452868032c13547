"""libFuzzer, as clang's package has it, around a harness in Python.

clang brings libFuzzer as an archive (`libclang_rt.fuzzer_no_main`). The system's linker makes a
shared object of it, which is kept in pytcg's cache folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytcg.errors import CpuError
from pytcg.fuzzing.edges import MAP_SIZE, EdgeMap

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.library.stop import Stop

_ARCHIVE = "libclang_rt.fuzzer_no_main-{machine}.a"
_CLANGS = ("clang", *(f"clang-{version}" for version in range(25, 11, -1)))


def libfuzzer(cpu: Cpu, run: Callable[[bytes], Stop], *, crashes: Sequence[str] = ("exception",),
              start: int = 0, end: int | None = None, size: int = MAP_SIZE,
              arguments: Sequence[str] | None = None,
              library: Path | None = None) -> int:  # fmt: skip
    """Be a libFuzzer with the options ``arguments`` (default: sys.argv's); its exit status.

    ``run`` gets each input; a `Stop` of one of the kinds ``crashes`` is a crash, as is what ``run``
    raises: libFuzzer keeps the input and ends the process. Coverage counts code between ``start``
    and ``end`` in a map of ``size`` edges. ``library`` is a shared object with libFuzzer in it.
    CpuError if there is none.
    """
    driver = ctypes.CDLL(str(library or _shared_object()))
    edges = EdgeMap(cpu, size=size, start=start, end=end)
    # __sanitizer_cov_8bit_counters_init(char *start, char *stop): the map lives as long as `edges`.
    driver.__sanitizer_cov_8bit_counters_init(ctypes.c_void_p(edges.address),
                                              ctypes.c_void_p(edges.address + size))  # fmt: skip
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    one = kind(lambda data, length: _one(run, edges, ctypes.string_at(data, length), crashes))
    words = [*_command(), *(sys.argv[1:] if arguments is None else arguments)]
    # LLVMFuzzerRunDriver(int *argc, char ***argv, int (*)(const uint8_t *, size_t)).
    argv = (ctypes.c_char_p * (len(words) + 1))(*(word.encode() for word in words), None)
    count, place = ctypes.c_int(len(words)), ctypes.c_void_p(ctypes.addressof(argv))
    return int(driver.LLVMFuzzerRunDriver(ctypes.byref(count), ctypes.byref(place), one))


def _command() -> list[str]:
    """What libFuzzer's own processes (-fork, -jobs) are started by, by way of a shell."""
    return [f"{sys.executable} {os.path.abspath(sys.argv[0])}"]


def _one(run: Callable[[bytes], Stop], edges: EdgeMap, data: bytes, crashes: Sequence[str]) -> int:
    """A test case; a crash is told as an instrumented program does, by SIGABRT."""
    edges.begin()
    try:
        stop = run(data)
        if stop.kind not in crashes:
            return 0
        print(f"pytcg: {stop}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    abort: Any = ctypes.CDLL(None).abort
    abort()  # libFuzzer's handler keeps the input and ends the process
    return 0


def _shared_object() -> Path:
    """libFuzzer as a shared object, linked now if it wasn't before; CpuError."""
    from pytcg_llvm.cache import user_cache

    archive = _archive()
    key = hashlib.blake2b(archive.read_bytes(), digest_size=10).hexdigest()
    path = Path(user_cache(), f"libfuzzer-{key}.so")
    if path.exists() and path.stat().st_uid == os.geteuid():
        return path
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise CpuError("libFuzzer can't be linked: there is no cc")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "made.so"
        command = [compiler, "-shared", "-o", str(made), "-Wl,--whole-archive", str(archive),
                   "-Wl,--no-whole-archive", "-lstdc++", "-lpthread", "-lm"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CpuError(f"libFuzzer can't be linked: {done.stderr.strip()}")
        made.replace(path)
    return path


def _archive() -> Path:
    name = _ARCHIVE.format(machine=platform.machine())
    for clang in _CLANGS:
        if shutil.which(clang) is None:
            continue
        done = subprocess.run([clang, f"-print-file-name={name}"], capture_output=True, text=True,
                              check=False)  # fmt: skip
        found = Path(done.stdout.strip())
        if found.is_absolute() and found.exists():
            return found
    raise CpuError(f"there is no libFuzzer: {name} comes with clang (apt-get install clang)")
