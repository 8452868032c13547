"""The large programs: the distribution's Python interpreter and its C compiler.

Their packages are fetched as the kernel is and unpacked into the cache folder. They run through
their own loader and libraries, in the guest as on the host, so that both run the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_IFREG
from typing import Final

from bench.engines import EngineError
from bench.guests.build import FOLDER, SOURCES
from bench.guests.csource import source
from pytcg.cli import guest
from pytcg.cli.initramfs import Entry, directory, executable, symlink

PROGRAMS: Final = ("python", "gcc")
ROOT: Final = "large"  # the unpacked packages: in the cache folder and in the guest
MEMORY: Final = 512  # MiB: the archive and what is unpacked from it are there at once
TIMED: Final = "timed"
SOURCE: Final = "lines.c"
SCRIPT: Final = "script.py"

_META: Final = ("cpp", "python3-minimal")  # they depend on the packages of the current version
_WANTED: Final = re.compile(r"(cpp-\d+(-x86-64-linux-gnu)?|(lib)?python3\.\d+-minimal|zlib1g|libc6"
                            r"|lib(isl|mpc|mpfr|gmp|zstd|expat)\d+)(t64)?")  # fmt: skip
_LEFT_OUT: Final = ("usr/share", "etc", "usr/lib/x86_64-linux-gnu/gconv",
                    "usr/lib/python3/")  # fmt: skip


def folder_with_packages(cache: Path) -> Path:
    """The unpacked packages, fetched if they aren't there."""
    root = cache / ROOT
    if not root.exists():
        try:
            fetch(cache, root)
        except (guest.GuestError, OSError, subprocess.CalledProcessError) as error:
            raise EngineError(f"guests: {error}") from error
    return root


def fetch(cache: Path, root: Path) -> None:
    """Download the packages and unpack them; the folder appears when it is whole."""
    work = Path(tempfile.mkdtemp(dir=cache, prefix=".fetch."))
    try:
        apt = guest.Apt(work)
        try:
            files = [apt.download(name) for name in packages(apt)]
        except guest.GuestError:  # no lists, or old ones
            apt.use_private_lists()
            files = [apt.download(name) for name in packages(apt)]
        for file in files:
            subprocess.run(["dpkg-deb", "-x", str(file), str(work / ROOT)], check=True)
        os.rename(work / ROOT, root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def packages(apt: guest.Apt) -> list[str]:
    """What the two programs are made of, among all that their packages depend on."""
    text = apt.run("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
                   "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *_META)
    names = sorted({line for line in text.splitlines() if _WANTED.fullmatch(line)})
    if not names:
        raise guest.GuestError(f"apt knows no packages of {' and '.join(_META)}")
    return names


def _only(root: Path, pattern: str) -> str:
    """The one file of that name, relative to the root."""
    found = sorted(path.relative_to(root) for path in root.glob(pattern) if not path.is_dir())
    if not found:
        raise EngineError(f"guests: no {pattern} in {root}")
    return str(found[0])


def command(name: str, root: Path, place: str, timed: str, folder: str, output: str) -> list[str]:
    """The words that run a program whose packages lie in ``root``, known as ``place`` where it
    runs; its input is in ``folder``, and what it prints goes to the file ``output``."""
    loader = _only(root, "**/ld-linux-x86-64.so.2")
    libraries = ":".join(f"{place}/{lib}/x86_64-linux-gnu" for lib in ("lib", "usr/lib"))
    run = ["env", f"PYTHONHOME={place}/usr", "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1",
           f"{place}/{loader}", "--library-path", libraries]  # fmt: skip
    if name == "gcc":
        words = [_only(root, "usr/**/cc1"), "-quiet", "-fpreprocessed", "-O2", SOURCE, "-o", "-"]
    else:
        words = [_only(root, "usr/bin/python3.*"), "-S", SCRIPT]
    return [timed, name, folder, output, *run, f"{place}/{words[0]}", *words[1:]]


def write_inputs(folder: Path) -> None:
    """What the programs work on, for the host."""
    (folder / SOURCE).write_text(source(), encoding="utf-8")
    (folder / SCRIPT).write_bytes((SOURCES / SCRIPT).read_bytes())


def entries(root: Path, timed: Path) -> Iterator[Entry]:
    """What the guest's archive has beside busybox: the packages, the inputs, a script a program."""
    yield directory(ROOT)
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(_LEFT_OUT) or path.suffix == ".a":
            continue
        if path.is_symlink():
            yield symlink(f"{ROOT}/{name}", os.readlink(path))
        elif path.is_dir():
            yield directory(f"{ROOT}/{name}")
        else:
            yield executable(f"{ROOT}/{name}", path.read_bytes())
    yield executable(f"{FOLDER}/{TIMED}", timed.read_bytes())
    yield Entry(f"{FOLDER}/{SOURCE}", S_IFREG | 0o644, source().encode())
    yield Entry(f"{FOLDER}/{SCRIPT}", S_IFREG | 0o644, (SOURCES / SCRIPT).read_bytes())
    for name in PROGRAMS:
        words = command(name, root, f"/{ROOT}", f"/{FOLDER}/{TIMED}", f"/{FOLDER}", "/tmp/output")
        yield Entry(f"{FOLDER}/{name}.sh", S_IFREG | 0o644, " ".join(words).encode() + b"\n")
