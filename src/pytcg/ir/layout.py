"""Struct layouts shared by native code, lowering and Python: one row a field, one owner."""

from __future__ import annotations

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


class Struct:
    """A named layout; fields are laid out in order, naturally aligned.

    ``rows`` hold (name, type) or (name, type, count); a type may be the name of a scalar or
    ``"ptr"``. The offsets are readable as attributes of ``offsets``.
    """

    def __init__(self, name: str, rows: list[tuple[str, str] | tuple[str, str, int]], *,
                 base: Struct | None = None, align: int = 8):  # fmt: skip
        self.name = name
        self.fields: dict[str, Field] = dict(base.fields) if base else {}
        offset = base.size if base else 0
        for row in rows:
            type_ = SCALARS[row[1]]
            count = row[2] if len(row) == 3 else 1
            offset = -(-offset // type_.size) * type_.size
            self.fields[row[0]] = Field(row[0], type_, offset, count, len(row) == 3)
            offset += type_.size * count
        self.size: int = -(-offset // align) * align

    def alias(self, name: str, field: str) -> None:
        """Another name for a field."""
        self.fields[name] = self.fields[field]

    def offset(self, name: str, index: int = 0) -> int:
        field = self.fields[name]
        return field.offset + index * field.type.size

    def __repr__(self) -> str:
        return self.name
