"""What host code depends on besides what it is made of: pytcg's sources, the compiler, the CPU."""

from __future__ import annotations

import os
from _blake2 import blake2b
from collections.abc import Iterator
from functools import cache

from pytcg_llvm.cache import FACTS, ObjectCache

_CPU = (b"vendor_id", b"cpu family", b"model", b"stepping", b"flags")
"""Lines of /proc/cpuinfo that say what LLVM reads from CPUID."""


@cache
def source_identity() -> str:
    """Digest of the sources that decide what is compiled, and of the host.

    Hashing them takes longer than looking at their sizes and times, by which it is remembered.
    """
    sources = _sources()
    facts = [host_identity()]
    for name, path in sources:
        info = os.stat(path)
        facts.append(f"{name} {info.st_ino} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}")
    stamp = ObjectCache.key(*facts)
    known, name = ObjectCache(FACTS), f"sources/{ObjectCache.key(__file__)}"
    kept = (known.load(name) or b"").decode().split()
    if len(kept) == 2 and kept[0] == stamp:
        return kept[1]
    made = _digest(sources)
    known.store(name, f"{stamp} {made}".encode())
    return made


def _digest(sources: list[tuple[str, str]]) -> str:
    digest = blake2b(host_identity().encode(), digest_size=16)
    for name, path in sources:
        with open(path, "rb") as file:
            digest.update(name.encode() + b"\0" + file.read())
    return digest.hexdigest()


def _sources() -> list[tuple[str, str]]:
    """All files that may change what is compiled: name and path."""
    import pytcg.ir
    import pytcg_x86

    backends = _parent(__file__)
    frontends = _parent(str(pytcg_x86.__file__))
    package = _parent(str(pytcg.ir.__file__))
    places = ((backends, ("pytcg_llvm", "pytcg_threaded", "pytcg_region")),
              (frontends, ("pytcg_x86", "pytcg_native")),
              (package, ("ir", "opt", "exec", "softmmu")))  # fmt: skip
    return sorted((path[len(root) + 1 :], path) for root, folders in places for folder in folders
                  for path in _below(f"{root}/{folder}"))  # fmt: skip


def _parent(path: str) -> str:
    """The folder that a package lies in, by a file of it."""
    return os.path.dirname(os.path.dirname(os.path.realpath(path)))


def _below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _below(entry.path)


@cache
def host_identity() -> str:
    """The compiler and the CPU. Asking LLVM itself would mean to load it at each start."""
    import llvmlite

    cpu = _cpu_lines()
    if not cpu:
        from pytcg_llvm.host import host_name

        return f"llvmlite {llvmlite.__version__} {host_name()}"
    return f"llvmlite {llvmlite.__version__} {cpu}"


def _cpu_lines() -> str:
    """The first processor in /proc/cpuinfo; "" where there is none."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(1 << 16)
    except OSError:
        return ""
    lines = text.split(b"\n\n", 1)[0].splitlines()
    return b" ".join(line for line in lines if line.split(b"\t", 1)[0] in _CPU).decode()
