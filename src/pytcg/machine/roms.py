"""Firmware images: where the distribution's packages put them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PACKAGED: Final = (
    "/usr/share/seabios",
    "/usr/share/qemu",
    "/usr/share/ovmf",
    "/usr/share/OVMF",
    "/usr/local/share/qemu",
)
PACKAGES: Final = {"bios": "seabios", "vgabios": "seabios", "OVMF": "ovmf"}
DEFAULT_BIOS: Final = "bios-256k.bin"
BANK: Final = 64 << 10
LARGEST: Final = 16 << 20


class RomError(Exception):
    """A firmware image that isn't there or is of no use; the text names it."""


class RomFinder:
    """Looks for images in the folders of `-L`, then in a cache, then where packages have them."""

    def __init__(self, folders: Sequence[str] = (), cache: str | Path | None = None) -> None:
        self.folders = [*folders, *([str(cache)] if cache is not None else []), *PACKAGED]

    def find(self, name: str) -> str | None:
        """The path of an image: the name itself if there is such a file, else in the folders."""
        for path in (name, *(os.path.join(folder, name) for folder in self.folders)):
            if os.path.isfile(path):
                return path
        return None

    def read(self, name: str, what: str) -> bytes:
        """The image; RomError in one line that says which package has it."""
        path = self.find(name)
        if path is None:
            raise RomError(f"could not find {what} '{name}'{_hint(name)}")
        try:
            with open(path, "rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            raise RomError(f"could not open {what} '{path}': {error.strerror}") from error
        if not data or len(data) > LARGEST:
            raise RomError(f"{what} '{path}' has {len(data)} bytes: it is no such image")
        return data

    def read_bios(self, name: str | None) -> bytes:
        """The system firmware, in whole 64 KiB banks."""
        data = self.read(name or DEFAULT_BIOS, "the firmware")
        if len(data) % BANK:
            raise RomError(f"the firmware '{name}' has {len(data)} bytes, not a multiple of 64 KiB")
        return data


def _hint(name: str) -> str:
    base = os.path.basename(name)
    for prefix, package in PACKAGES.items():
        if base.startswith(prefix):
            return f": it is part of the package '{package}' (apt install {package})"
    return ""
