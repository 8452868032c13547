"""Memory of the host's that guests show: `-object memory-backend-file`, `-memfd` and `-ram`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pytcg.hw.pci.bar import Backing
from pytcg.softmmu.ram import RamError

if TYPE_CHECKING:
    from pytcg.softmmu.address_map import AddressMap


class BackendError(Exception):
    """Memory that can't be had; the text says why."""


class MemoryBackend(NamedTuple):
    """``size`` bytes behind a descriptor; not ``share``: what is written stays in this machine."""

    name: str
    fd: int
    size: int
    share: bool


def open_file(name: str, path: str, size: int, *, share: bool) -> MemoryBackend:
    """A file, made and grown as needed, or in a folder one without a name; BackendError."""
    try:
        if os.path.isdir(path):
            fd = os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        else:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        have = os.fstat(fd).st_size
        if have and have < size:
            os.close(fd)
            raise BackendError(f"backing store size {have:#x} does not match 'size' option"
                               f" {size:#x}")  # fmt: skip
        if not have:
            os.ftruncate(fd, size)
    except OSError as error:
        raise BackendError(f"can't open backing store {path} for guest RAM: {error.strerror}"
                           ) from error  # fmt: skip
    return MemoryBackend(name, fd, size, share)


def open_memfd(name: str, size: int, *, share: bool) -> MemoryBackend:
    """Memory without a file; BackendError."""
    try:
        fd = os.memfd_create(f"memory-backend-memfd-{name}", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
    except OSError as error:
        raise BackendError(f"can't create memory for '{name}': {error.strerror}") from error
    return MemoryBackend(name, fd, size, share)


def open_backend(kind: str, values: Mapping[str, str]) -> MemoryBackend:
    """Of an object's properties; BackendError."""
    name, size, share = values["id"], int(values["size"]), values["share"] == "on"
    if kind == "memory-backend-file":
        return open_file(name, values["mem-path"], size, share=share)
    return open_memfd(name, size, share=share)


def place(memory: AddressMap, fd: int, size: int, *, share: bool = True) -> Backing:
    """Put a descriptor's memory into the RAM window; BackendError."""
    try:
        offset = memory.allocate(size)
        memory.window.map_file(offset, size, fd, share=share)
    except RamError as error:
        raise BackendError(str(error)) from error
    return Backing(memory.view(offset, size), offset)
