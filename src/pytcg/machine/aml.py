"""ACPI Machine Language, the little of it that a PC's DSDT needs (ACPI 6.4, chapter 20)."""

from __future__ import annotations

import struct
from enum import IntEnum

ALIAS_ROOT = b"\\"


class Op(IntEnum):
    """Opcodes of ACPI 20.3."""

    ZERO = 0x00
    ONE = 0x01
    NAME = 0x08
    BYTE = 0x0A
    WORD = 0x0B
    DWORD = 0x0C
    STRING = 0x0D
    SCOPE = 0x10
    BUFFER = 0x11
    PACKAGE = 0x12
    EXTENDED = 0x5B
    DEVICE = 0x82  # after EXTENDED


def package_length(body: bytes) -> bytes:
    """PkgLength in front of the body (20.2.4): it counts itself."""
    if len(body) + 1 < 0x40:
        return bytes([len(body) + 1]) + body
    for extra in (1, 2, 3):
        length = len(body) + 1 + extra
        if length < 1 << (4 + 8 * extra):
            high = [(length >> (4 + 8 * index)) & 0xFF for index in range(extra)]
            return bytes([extra << 6 | length & 0xF, *high]) + body
    raise ValueError("AML body too long")


def integer(value: int) -> bytes:
    """The shortest spelling of a constant."""
    if value <= 1:
        return bytes([value])
    if value <= 0xFF:
        return struct.pack("<BB", Op.BYTE, value)
    if value <= 0xFFFF:
        return struct.pack("<BH", Op.WORD, value)
    return struct.pack("<BL", Op.DWORD, value)


def string(text: str) -> bytes:
    """A String constant."""
    return bytes([Op.STRING]) + text.encode("ascii") + b"\0"


def segment(name: str) -> bytes:
    """A name of up to four characters, padded with underscores; `\\` in front means the root."""
    root, bare = (ALIAS_ROOT, name[1:]) if name.startswith("\\") else (b"", name)
    return root + bare.ljust(4, "_").encode("ascii")


def name(identifier: str, value: bytes) -> bytes:
    """Name (identifier, value)."""
    return bytes([Op.NAME]) + segment(identifier) + value


def scope(identifier: str, *body: bytes) -> bytes:
    """Scope (identifier) { body }."""
    return bytes([Op.SCOPE]) + package_length(segment(identifier) + b"".join(body))


def device(identifier: str, *body: bytes) -> bytes:
    """Device (identifier) { body }."""
    inside = segment(identifier) + b"".join(body)
    return bytes([Op.EXTENDED, Op.DEVICE]) + package_length(inside)


def package(*elements: bytes) -> bytes:
    """Package () { elements }."""
    return bytes([Op.PACKAGE]) + package_length(bytes([len(elements)]) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    """Buffer () { data }."""
    return bytes([Op.BUFFER]) + package_length(integer(len(data)) + data)


def eisa_id(text: str) -> bytes:
    """A compressed EISA identifier such as PNP0501 (19.3.4, EISAID)."""
    letters = [ord(letter) - 0x40 for letter in text[:3]]
    vendor = letters[0] << 10 | letters[1] << 5 | letters[2]
    return bytes([Op.DWORD]) + struct.pack(">HH", vendor, int(text[3:], 16))


def io_ports(base: int, length: int) -> bytes:
    """Resource: fixed 16-bit ports (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 0x01, base, base, 1, length)


def irq(number: int) -> bytes:
    """Resource: an edge-triggered, active-high ISA interrupt (6.4.2.1)."""
    return struct.pack("<BH", 0x22, 1 << number)


def resources(*items: bytes) -> bytes:
    """Name (_CRS, ResourceTemplate () { items }); checksum zero means "not checked"."""
    return name("_CRS", buffer(b"".join(items) + b"\x79\0"))
