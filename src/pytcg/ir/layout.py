"""Struct layouts shared by native code, lowering and Python: one row a field, one owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scalar:
    """A native scalar type: ``u32`` is 4 bytes unsigned; ``ptr`` an untyped pointer."""

    name: str
    size: int
    signed: bool = False
    floating: bool = False
    struct: Struct | None = None  # what a typed pointer points at
    element: Scalar | None = None  # or the scalar it points at

    @property
    def bits(self) -> int:
        return 1 if self.name == "bool" else self.size * 8

    @property
    def is_pointer(self) -> bool:
        return self.name == "ptr"

    def __repr__(self) -> str:
        return self.name


BOOL = Scalar("bool", 1)
U8, U16, U32, U64, U128 = (Scalar(f"u{8 << i}", 1 << i) for i in range(5))
I8, I16, I32, I64 = (Scalar(f"i{8 << i}", 1 << i, signed=True) for i in range(4))
F32, F64 = Scalar("f32", 4, floating=True), Scalar("f64", 8, floating=True)
PTR = Scalar("ptr", 8)
VOID = Scalar("void", 0)
SCALARS = {t.name: t for t in
           (BOOL, U8, U16, U32, U64, U128, I8, I16, I32, I64, F32, F64, PTR, VOID)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A field: ``count`` > 1 is an array."""

    name: str
    type: Scalar
    offset: int
    count: int = 1
    array: bool = False


Rows = Sequence[tuple[str, str] | tuple[str, str, int]]


class Struct:
    """A named layout; fields are laid out in order, naturally aligned.

    ``rows`` hold (name, type) or (name, type, count); a type may be the name of a scalar or
    ``"ptr"``. Pointers point ``-origin`` bytes into it, so that more fields are within a byte's
    displacement. Fields of ``inside`` share the room of the base's fields that it names.
    """

    def __init__(self, name: str, rows: Rows, *, base: Struct | None = None, align: int = 8,
                 origin: int = 0, inside: dict[str, Rows] | None = None):  # fmt: skip
        self.name = name
        self.fields: dict[str, Field] = dict(base.fields) if base else {}
        self.origin: int = base.origin if base else origin
        end = self._lay_out(rows, base.size + base.origin if base else origin)
        for room, parts in (inside or {}).items():
            field = self.fields[room]
            assert self._lay_out(parts, field.offset) <= self.offset(room, field.count), room
        self.size: int = -(-(end - self.origin) // align) * align

    def _lay_out(self, rows: Rows, offset: int) -> int:
        for row in rows:
            type_ = SCALARS[row[1]]
            count = row[2] if len(row) == 3 else 1
            offset = -(-offset // type_.size) * type_.size
            self.fields[row[0]] = Field(row[0], type_, offset, count, len(row) == 3)
            offset += type_.size * count
        return offset

    def alias(self, name: str, field: str) -> None:
        """Another name for a field."""
        self.fields[name] = self.fields[field]

    def offset(self, name: str, index: int = 0) -> int:
        """Bytes from where a pointer points to a field."""
        field = self.fields[name]
        return field.offset + index * field.type.size

    def place(self, name: str, index: int = 0) -> int:
        """Bytes from the struct's first to a field."""
        return self.offset(name, index) - self.origin

    def __repr__(self) -> str:
        return self.name
