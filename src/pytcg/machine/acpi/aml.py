"""ACPI Machine Language, as much as a PC's DSDT needs (ACPI 6.4, chapter 20).

Terms are bytes; functions are named after ASL's operators. Resource descriptors: `resource`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

ALIAS_ROOT = b"\\"
ZERO = b"\0"


class Op(IntEnum):
    """Opcodes of ACPI 20.3."""

    ZERO = 0x00
    ONE = 0x01
    NAME = 0x08
    BYTE = 0x0A
    WORD = 0x0B
    DWORD = 0x0C
    STRING = 0x0D
    QWORD = 0x0E
    SCOPE = 0x10
    BUFFER = 0x11
    PACKAGE = 0x12
    METHOD = 0x14
    DUAL_NAME = 0x2E
    MULTI_NAME = 0x2F
    EXTENDED = 0x5B
    ARG0 = 0x68
    ARG1 = 0x69
    STORE = 0x70
    AND = 0x7B
    OR = 0x7D
    CREATE_DWORD_FIELD = 0x8A
    NOTIFY = 0x86
    LLESS = 0x95
    IF = 0xA0
    RETURN = 0xA4
    REGION = 0x80  # these three after EXTENDED
    FIELD = 0x81
    DEVICE = 0x82


SYSTEM_IO = 1  # region spaces
PCI_CONFIG = 2
BYTE_ACCESS = 1  # field flags: no lock, preserve
DWORD_ACCESS = 3
WRITE_AS_ZEROS = 0x40
SERIALIZED = 8
ARG0 = bytes([Op.ARG0])
ARG1 = bytes([Op.ARG1])


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
    if value <= 0xFFFFFFFF:
        return struct.pack("<BL", Op.DWORD, value)
    return struct.pack("<BQ", Op.QWORD, value)


def string(text: str) -> bytes:
    """A String constant."""
    return bytes([Op.STRING]) + text.encode("ascii") + b"\0"


def segment(name: str) -> bytes:
    """A name, or a path such as `\\_SB.PCI0`; parts are padded with underscores."""
    root, bare = (ALIAS_ROOT, name[1:]) if name.startswith("\\") else (b"", name)
    parts = [part.ljust(4, "_").encode("ascii") for part in bare.split(".")]
    if len(parts) == 1:
        return root + parts[0]
    prefix = [Op.DUAL_NAME] if len(parts) == 2 else [Op.MULTI_NAME, len(parts)]
    return root + bytes(prefix) + b"".join(parts)


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


def method(identifier: str, arguments: int, *body: bytes, serialized: bool = False) -> bytes:
    """Method (identifier, arguments) { body }."""
    flags = arguments | (SERIALIZED if serialized else 0)
    inside = segment(identifier) + bytes([flags]) + b"".join(body)
    return bytes([Op.METHOD]) + package_length(inside)


def returns(value: bytes) -> bytes:
    """Return (value)."""
    return bytes([Op.RETURN]) + value


def call(identifier: str, *arguments: bytes) -> bytes:
    """identifier (arguments)."""
    return segment(identifier) + b"".join(arguments)


def when(condition: bytes, *body: bytes) -> bytes:
    """If (condition) { body }."""
    return bytes([Op.IF]) + package_length(condition + b"".join(body))


def store(value: bytes, target: bytes) -> bytes:
    """Store (value, target)."""
    return bytes([Op.STORE]) + value + target


def notify(object: str, value: bytes) -> bytes:
    """Notify (object, value)."""
    return bytes([Op.NOTIFY]) + segment(object) + value


def bit_and(first: bytes, second: bytes, target: bytes = b"\0") -> bytes:
    """And (first, second, target)."""
    return bytes([Op.AND]) + first + second + target


def bit_or(first: bytes, second: bytes, target: bytes = b"\0") -> bytes:
    """Or (first, second, target)."""
    return bytes([Op.OR]) + first + second + target


def less(first: bytes, second: bytes) -> bytes:
    """LLess (first, second)."""
    return bytes([Op.LLESS]) + first + second


def dword_field(source: bytes, offset: int, identifier: str) -> bytes:
    """CreateDWordField (source, offset, identifier)."""
    return bytes([Op.CREATE_DWORD_FIELD]) + source + integer(offset) + segment(identifier)


def region(identifier: str, space: int, offset: int, length: int) -> bytes:
    """OperationRegion (identifier, space, offset, length)."""
    head = bytes([Op.EXTENDED, Op.REGION]) + segment(identifier) + bytes([space])
    return head + integer(offset) + integer(length)


def byte_fields(region_name: str, *identifiers: str) -> bytes:
    """Field (region, ByteAcc, NoLock, Preserve) with one byte for each name."""
    return _fields(region_name, BYTE_ACCESS, 8, identifiers)


def dword_fields(region_name: str, *identifiers: str) -> bytes:
    """Field (region, DWordAcc, NoLock, WriteAsZeros) with four bytes for each name."""
    return _fields(region_name, DWORD_ACCESS | WRITE_AS_ZEROS, 32, identifiers)


def _fields(region_name: str, flags: int, bits: int, identifiers: Sequence[str]) -> bytes:
    fields = b"".join(segment(identifier) + bytes([bits]) for identifier in identifiers)
    inside = segment(region_name) + bytes([flags]) + fields
    return bytes([Op.EXTENDED, Op.FIELD]) + package_length(inside)
