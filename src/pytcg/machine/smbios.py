"""SMBIOS 2.8 tables (DMTF DSP0134), as firmware copies them from fw_cfg.

`Smbios.set` takes what `-smbios type=N,…` says; types 0 (BIOS) and 2 (base board) are there only
when something is said of them, for firmware adds a type 0 of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from pytcg.machine.layout import FOUR_GIB, GIB, KIB, low_memory_end

ANCHOR_FILE: Final = "etc/smbios/smbios-anchor"
TABLES_FILE: Final = "etc/smbios/smbios-tables"
VERSION: Final = (2, 8)
LARGEST_MODULE: Final = 16 * GIB
ANCHOR_ROOM: Final = 32
NO_HANDLE: Final = 0xFFFE
UNKNOWN_16: Final = 0xFFFF

VENDOR: Final = "QEMU"  # by which guests know what they run on
PRODUCT: Final = "Standard PC (i440FX + PIIX, 1996)"
MACHINE: Final = "pc-i440fx-7.2"

# Properties of each type, in the order of their strings' numbers; the others are numbers.
STRINGS: Final[dict[int, dict[str, str]]] = {
    0: {"vendor": "", "version": "", "date": ""},
    1: {"manufacturer": VENDOR, "product": PRODUCT, "version": MACHINE, "serial": "", "sku": "",
        "family": ""},
    2: {"manufacturer": VENDOR, "product": PRODUCT, "version": MACHINE, "serial": "", "asset": "",
        "location": ""},
    3: {"manufacturer": VENDOR, "version": MACHINE, "serial": "", "asset": "", "sku": ""},
    4: {"sock_pfx": "CPU", "manufacturer": VENDOR, "version": MACHINE, "serial": "", "asset": "",
        "part": ""},
    17: {"loc_pfx": "DIMM", "bank": "", "manufacturer": VENDOR, "serial": "", "asset": "",
         "part": ""},
}  # fmt: skip
NUMBERS: Final[dict[int, tuple[str, ...]]] = {
    0: ("release", "uefi"), 1: ("uuid",), 4: ("max-speed", "current-speed"), 17: ("speed",),
}  # fmt: skip


class SmbiosError(ValueError):
    """A property that there is not, or a value that it can't have."""


def _guid(text: str) -> bytes:
    """A UUID as 7.2.1 has it: the first three fields have their lowest byte first."""
    data = bytes.fromhex(text.replace("-", ""))
    return data[3::-1] + data[5:3:-1] + data[7:5:-1] + data[8:]


class Smbios:
    """The tables of one machine."""

    def __init__(self, ram_size: int) -> None:
        self._ram_size = ram_size
        self._texts = {kind: dict(strings) for kind, strings in STRINGS.items()}
        self._numbers: dict[tuple[int, str], str] = {}
        self._told: set[int] = set()
        self._oem: list[str] = []
        self.uuid = "00000000-0000-0000-0000-000000000000"

    def set(self, kind: int, values: Mapping[str, str]) -> None:
        """Properties of one type; SmbiosError."""
        if kind == 11:
            self._oem += [values[name] for name in values]
            return
        if kind not in self._texts:
            raise SmbiosError(f"type {kind} is not supported")
        for name, value in values.items():
            if name in self._texts[kind]:
                self._texts[kind][name] = value
            elif name in NUMBERS.get(kind, ()):
                self._set_number(kind, name, value)
            else:
                raise SmbiosError(f"invalid parameter '{name}' of type {kind}")
        self._told.add(kind)

    def _set_number(self, kind: int, name: str, value: str) -> None:
        if name == "uuid":
            from uuid import UUID

            try:
                self.uuid = str(UUID(value))
            except ValueError:
                raise SmbiosError(f"invalid UUID '{value}'") from None
        self._numbers[kind, name] = value

    def _number(self, kind: int, name: str, default: int) -> int:
        try:
            return int(self._numbers.get((kind, name), str(default)), 0) & 0xFFFF
        except ValueError:
            raise SmbiosError(f"invalid value of '{name}'") from None

    def tables(self) -> bytes:
        """All structures, the end-of-table one last."""
        parts = [self._bios(), self._system(), self._base_board(), self._chassis(),
                 self._processor(), self._oem_strings(), *self._memory(),
                 _structure(32, 0x2000, bytes(7)), _structure(127, 0x7F00, b"")]  # fmt: skip
        return b"".join(parts)

    def anchor(self) -> bytes:
        """The 32-bit entry point (5.2.1); the tables' address is for firmware to fill in."""
        tables = self.tables()
        count, at, largest = 0, 0, 0
        while at < len(tables):
            end = tables.index(b"\0\0", at + tables[at + 1]) + 2
            count, largest, at = count + 1, max(largest, end - at), end
        inner = bytearray(struct.pack("<5sBHLHB", b"_DMI_", 0, len(tables), 0, count,
                                      VERSION[0] << 4 | VERSION[1]))  # fmt: skip
        inner[5] = -sum(inner) & 0xFF
        outer = bytearray(struct.pack("<4sBBBBHB5x", b"_SM_", 0, 0x1F, *VERSION, largest, 0))
        outer[4] = -(sum(outer) + sum(inner)) & 0xFF
        return bytes(outer + inner)

    def place(self, base: int) -> bytes:
        """Anchor and tables linked for a physical address (a multiple of 16), without firmware."""
        anchor = bytearray(self.anchor())
        struct.pack_into("<L", anchor, 24, base + ANCHOR_ROOM)
        for at, start in ((21, 16), (4, 0)):
            anchor[at] = 0
            anchor[at] = -sum(anchor[start:]) & 0xFF
        return bytes(anchor).ljust(ANCHOR_ROOM, b"\0") + self.tables()

    # --- structures ----------------------------------------------------------------------------

    def _strings(self, kind: int, **instead: str) -> tuple[dict[str, int], list[str]]:
        """Numbers of a type's strings, 0 for empty ones, and the strings."""
        texts = self._texts[kind] | instead
        used = [text for text in texts.values() if text]
        numbers: dict[str, int] = {}
        for name, text in texts.items():
            numbers[name] = len([n for n in numbers.values() if n]) + 1 if text else 0
        return numbers, used

    def _bios(self) -> bytes:
        if 0 not in self._told:
            return b""
        n, strings = self._strings(0)
        major, _, minor = self._numbers.get((0, "release"), "0.0").partition(".")
        uefi = self._numbers.get((0, "uefi"), "off") in ("on", "yes", "true")
        body = struct.pack("<BBHBBQBBBBBB", n["vendor"], n["version"], 0xE800, n["date"], 0,
                           0x08, 0, 0x04 | (0x08 if uefi else 0), int(major or 0) & 0xFF,
                           int(minor or 0) & 0xFF, 0xFF, 0xFF)  # fmt: skip
        return _structure(0, 0, body, strings)

    def _system(self) -> bytes:
        n, strings = self._strings(1)
        body = bytes([n["manufacturer"], n["product"], n["version"], n["serial"]])
        body += _guid(self.uuid) + bytes([6, n["sku"], n["family"]])
        return _structure(1, 0x100, body, strings)

    def _base_board(self) -> bytes:
        if 2 not in self._told:
            return b""
        n, strings = self._strings(2)
        names = ("manufacturer", "product", "version", "serial", "asset")
        body = bytes([n[name] for name in names]) + bytes([1, n["location"]])
        return _structure(2, 0x200, body + struct.pack("<HBB", 0x300, 0x0A, 0), strings)

    def _chassis(self) -> bytes:
        n, strings = self._strings(3)
        safe, unknown = 3, 2
        body = bytes([n["manufacturer"], 1, n["version"], n["serial"], n["asset"]])
        body += bytes([safe, safe, safe, unknown]) + bytes(4 + 4) + bytes([n["sku"]])
        return _structure(3, 0x300, body, strings)

    def _processor(self) -> bytes:
        n, strings = self._strings(4, sock_pfx=self._texts[4]["sock_pfx"] + " 0")
        speeds = self._number(4, "max-speed", 2000), self._number(4, "current-speed", 2000)
        body = struct.pack("<BBBBQBBHHHBBHHH", n["sock_pfx"], 3, 1, n["manufacturer"], 0,
                           n["version"], 0, 0, *speeds, 0x41, 1, *[UNKNOWN_16] * 3)  # fmt: skip
        body += bytes([n["serial"], n["asset"], n["part"], 1, 1, 1])
        return _structure(4, 0x400, body + struct.pack("<HH", 2, 1), strings)

    def _oem_strings(self) -> bytes:
        return _structure(11, 0xE00, bytes([len(self._oem)]), self._oem) if self._oem else b""

    def _memory(self) -> list[bytes]:
        """The array, its modules and the addresses it answers at."""
        sizes = [LARGEST_MODULE] * (self._ram_size // LARGEST_MODULE)
        if rest := self._ram_size % LARGEST_MODULE:
            sizes.append(rest)
        array = struct.pack("<BBBLHHQ", 1, 3, 6, self._ram_size // KIB, NO_HANDLE, len(sizes), 0)
        modules = [self._module(number, size) for number, size in enumerate(sizes)]
        low_end = low_memory_end(self._ram_size)
        ranges = [(0, low_end)]
        if self._ram_size > low_end:
            ranges.append((FOUR_GIB, FOUR_GIB + self._ram_size - low_end))
        mapped = [_structure(19, 0x1300 + number, _range(*bounds, len(sizes)))
                  for number, bounds in enumerate(ranges)]  # fmt: skip
        return [_structure(16, 0x1000, array), *modules, *mapped]

    def _module(self, number: int, size: int) -> bytes:
        n, strings = self._strings(17, loc_pfx=f"{self._texts[17]['loc_pfx']} {number}")
        megabytes = size >> 20
        short, extended = (megabytes, 0) if megabytes < 0x7FFF else (0x7FFF, megabytes)
        body = struct.pack("<HHHHHBBBBBHHBBBBBLHHHH", 0x1000, NO_HANDLE, UNKNOWN_16, UNKNOWN_16,
                           short, 9, 0, n["loc_pfx"], n["bank"], 7, 2,
                           self._number(17, "speed", 0), n["manufacturer"], n["serial"],
                           n["asset"], n["part"], 0, extended, 0, 0, 0, 0)  # fmt: skip
        return _structure(17, 0x1100 + number, body, strings)


def _range(start: int, end: int, modules: int) -> bytes:
    """Memory array mapped address: in KiB, or as 64-bit addresses where that is too much."""
    if end // KIB <= 0xFFFFFFFF:
        return struct.pack("<LLHBQQ", start // KIB, end // KIB - 1, 0x1000, modules, 0, 0)
    return struct.pack("<LLHBQQ", 0xFFFFFFFF, 0xFFFFFFFF, 0x1000, modules, start, end - 1)


def _structure(kind: int, handle: int, body: bytes, strings: list[str] | None = None) -> bytes:
    """Header, formatted area, strings, and the two zeroes at the end (6.1)."""
    texts = b"".join(text.encode() + b"\0" for text in strings or ()) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(body), handle) + body + texts + b"\0"
