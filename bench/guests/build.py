"""The guest programs and the initramfs they are booted from.

Each program is a C file beside this one and `main.c`, compiled by `gcc -O2 -static` or, as
NAME-v3, by `gcc -O3 -march=haswell`: one binary runs in the emulators and on the host.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.engines import EngineError
from pytcg.cli import guest
from pytcg.cli.initramfs import (
    DIRECTORIES,
    Entry,
    character_device,
    directory,
    executable,
    newc,
    symlink,
)  # fmt: skip

SOURCES: Final = Path(__file__).parent
COMPILE: Final = ("gcc", "-O2", "-static", "-Wall")

# Hot loops, then floating point, then the kernel's paths.
INTEGER: Final = ("sieve", "sha256", "qsort", "fib", "bytecode", "chase", "division", "memcpy",
                  "strings")  # fmt: skip
FLOATING: Final = ("nbody", "matmul", "mandelbrot", "x87")
SYSTEM: Final = ("syscalls", "faults", "fork")
PROGRAMS: Final = (*INTEGER, *FLOATING, *SYSTEM)
# For x86-64-v3: FLOATING's matmul once more, a scan with AVX2, and every kind of vector loop.
VECTORS: Final = ("matmul-v3", "scan-v3", "vectors-v3")
# What processors have instructions for; each asks for its own.
CIPHERS: Final = ("sha256-ni", "aes-gcm")
COMPILE_V3: Final = ("gcc", "-O3", "-march=haswell", "-static", "-Wall")

FOLDER: Final = "bench"  # in the guest
APPLETS: Final = ("sh", "mount", "poweroff", "env")

# The kernel hands words it doesn't know, NAME=VALUE, to init as environment variables.
INIT: Final = f"""\
#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for name in $(IFS=,; echo $programs); do
    if [ -f /{FOLDER}/$name.sh ]; then sh /{FOLDER}/$name.sh; else /{FOLDER}/$name; fi ||
        echo "failed $name $?"
done
poweroff -f
"""


def compile_program(name: str, folder: Path) -> Path:
    """The program, compiled into a folder unless it is there and newer than its sources."""
    made, with_main = folder / name, name in (*PROGRAMS, *VECTORS, *CIPHERS)
    sources = [SOURCES / f"{name.removesuffix('-v3')}.c"]
    sources += [SOURCES / "main.c"] if with_main else []
    inputs = [*sources, *SOURCES.glob("*.h")]
    if made.exists() and made.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return made
    compiler = COMPILE_V3 if name in VECTORS else COMPILE
    command = [*compiler, "-o", str(made), *map(str, sources), "-lm"]
    compile_with(command)
    return made


def compile_with(command: list[str]) -> None:
    """Run the compiler; EngineError with its first complaint."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise EngineError(f"{' '.join(command)}: {(done.stderr.splitlines() or ['failed'])[0]}")


def base_folder() -> Path:
    """The cache folder with the distribution's kernel and busybox, fetched if they aren't there."""
    folder = guest.cache_folder()
    try:
        guest.ensure(folder)
    except (guest.GuestError, OSError) as error:
        raise EngineError(f"guests: {error}") from error
    return folder


def initramfs(busybox: bytes, files: Iterable[Entry]) -> bytes:
    """An archive with our init, a few of busybox's commands and what else is given."""
    return newc((
        *map(directory, (*DIRECTORIES, FOLDER)),
        character_device("dev/console", 5, 1),
        executable("bin/busybox", busybox),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
        executable("init", INIT.encode()),
        *files,
    ))  # fmt: skip
