"""The instruction table as the native decoder reads it: a tree of nodes and arrays of row facts.

A node is a u32: kind in the top byte; for inner nodes the index of the first child, for leaves the
row's number. Row 0 is the invalid instruction.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import IntEnum
from functools import cache

from pytcg_native.types import Table
from pytcg_x86.decode import table
from pytcg_x86.decode.table import Row, TableError

FAMILIES = (
    "integer.control", "integer.arith", "integer.logic", "integer.shift", "integer.muldiv",
    "integer.move", "integer.bits", "integer.bcd", "integer.stack", "integer.string",
    "integer.misc", "integer.bmi", "system.farcontrol", "system.iret", "system.segload",
    "system.selectors", "system.controlregs", "system.privileged", "system.syscall",
    "system.msr", "system.cpuid", "system.io", "system.fxsave", "system.xsave", "vector.sse_move",
    "vector.sse_int", "vector.sse_float", "vector.sse_convert", "vector.mmx", "vector.ssse3",
    "vector.sse_horizontal", "vector.sse41", "vector.sse_lanes", "vector.sse_round",
    "vector.sse42", "vector.crypto", "vector.sse4a", "integer.random", "system.lines",
    "vector.threednow", "vector.avx", "vector.avx_move", "vector.avx_permute",
    "vector.avx_masked", "vector.fma", "x87.instructions", "system.debugregs",
    "system.smm",
)  # fmt: skip


class Node(IntEnum):
    """What a node selects its child by."""

    LEAF = 0
    PREFIX = 1  # none, 66, F3, F2
    REG = 2
    MOD = 3     # memory, register
    RM = 4
    CODE64 = 5  # 16/32-bit code, 64-bit code
    LENGTH = 6  # VEX.L
    WIDE = 7    # VEX.W


class Kind(IntEnum):
    """Operand kinds, by their letter in the manual."""

    NONE = 0
    E = 1
    G = 2
    R = 3
    M = 4
    Z = 5
    I = 6  # noqa: E741
    J = 7
    O = 8  # noqa: E741
    A = 9
    S = 10
    C = 11
    D = 12
    V = 13
    W = 14
    U = 15
    P = 16
    Q = 17
    N = 18
    X = 19
    Y = 20
    FIXED = 21
    H = 22
    B = 23
    L = 24


SIZES = "-bwdqxvzyspho"
FIXED = ("AL", "CL", "DX", "rAX", "1", "AX", "eAX", "CX", "rCX", "rDX")
MAPS = ((), (0x0F,), (0x0F, 0x38), (0x0F, 0x3A))
VEX_MAP = 3
"""What is added to a map's number in VEX: its roots come after the others."""
ATTR_BIT = {name: 1 << i for i, name in enumerate(table.ATTRIBUTES)}
HAS_MODRM = 1 << 20
HAS_J = 1 << 21
HAS_VVVV = 1 << 26
JCC = 1 << 23  # may be the second half of a superinstruction
FUSES = 1 << 24  # may be the first half, if it does not write memory
COMPARES = 1 << 25  # never writes memory
ADDRESSED = 1 << 22  # the address size matters even without a memory operand

INVALID_ROW = Row((), None, None, None, None, False, "UD", (), frozenset())
NM_ROW = Row((), None, None, None, None, False, "NM", (), frozenset())
_MODRM_KINDS = frozenset("EGRMSCDVWUPQNHB")
CONDITIONS = ("O", "NO", "B", "NB", "Z", "NZ", "BE", "NBE", "S", "NS", "P", "NP", "L", "NL",
              "LE", "NLE")  # fmt: skip
_FUSES = ("CMP", "TEST", "SUB", "ADD", "AND", "DEC", "INC", "OR", "XOR")
_ADDRESSED = ("LOOP", "LOOPE", "LOOPNE", "JRCXZ", "XLAT", "MASKMOVQ", "MASKMOVDQU",
              "VMASKMOVDQU", "MONITOR", "CLZERO")  # fmt: skip


def operand_spec(code: str) -> tuple[Kind, str]:
    """Kind and size letter (or register name) of an operand code."""
    if code in FIXED:
        return Kind.FIXED, code
    kind, size = code[0], code[1:] or "-"
    if kind not in Kind.__members__ or size not in SIZES:
        raise TableError(f"operand {code!r}")
    return Kind[kind], size


def _operand_word(code: str) -> int:
    kind, size = operand_spec(code)
    return kind << 8 | (FIXED.index(size) if kind is Kind.FIXED else SIZES.index(size))


def _row_attrs(row: Row) -> int:
    bits = sum(ATTR_BIT[a] for a in row.attrs)
    modrm = row.reg is not None or row.mod is not None
    if modrm or any(code not in FIXED and code[0] in _MODRM_KINDS for code in row.operands):
        bits |= HAS_MODRM
    if any(code not in FIXED and code[0] in "HB" for code in row.operands):
        bits |= HAS_VVVV
    if any(code[0] == "J" for code in row.operands):
        bits |= HAS_J
    if row.mnemonic[0] == "J" and row.mnemonic[1:] in CONDITIONS:
        bits |= JCC
    if row.mnemonic in _FUSES:
        bits |= FUSES | (COMPARES if row.mnemonic in ("CMP", "TEST") else 0)
    if row.mnemonic in _ADDRESSED or any(code[0] in "XYO" for code in row.operands):
        bits |= ADDRESSED
    return bits


def _feature_numbers(row: Row) -> tuple[int, int]:
    from pytcg_x86.system.features import FEATURES

    unknown = set(row.features) - FEATURES.keys()
    if unknown or len(row.features) > 2:
        raise TableError(f"{row}: features {row.features}")
    numbers = [1 + (FEATURES[name][0] << 6 | FEATURES[name][1]) for name in row.features]
    first, second = [*numbers, 0, 0][:2]
    return first, second


def _row_order(row: Row) -> tuple[object, ...]:
    fixed = (-1 if number is None else number
             for number in (row.reg, row.rm, row.length, row.wide))  # fmt: skip
    return (row.vex, row.opcode, row.plus, row.prefix or "", row.mod or "", *fixed, row.mnemonic,
            row.operands)  # fmt: skip


class Opcodes:
    """The whole table, families loaded, in the decoder's arrays."""

    def __init__(self) -> None:
        for family in FAMILIES:
            importlib.import_module(f"pytcg_x86.{family}")
        # Row numbers are part of compiled handlers: they can't depend on the order of imports.
        known = [row for row in table.ROWS if row.mnemonic in table.LOWERINGS]
        self.rows = [INVALID_ROW, NM_ROW, *sorted(known, key=_row_order)]
        self.nodes: list[int] = []
        roots = [self._map(escape) for escape in MAPS]
        roots += [self._map(escape, vex=True) for escape in MAPS[1:]]
        self.roots = Table("x86_roots", "u32", [node for root in roots for node in root])
        self.node_table = Table("x86_nodes", "u32", self.nodes or [0])
        words = [[_operand_word(c) for c in row.operands] for row in self.rows]
        flat = [word for w in words for word in (*w, *[0] * (4 - len(w)))]
        self.operands = Table("x86_operands", "u16", flat)
        self.attrs = Table("x86_attrs", "u32", [_row_attrs(row) for row in self.rows])
        # Two features a row, any of which it needs (0: none, else 1 + word * 64 + bit); and the
        # row that counts without them.
        features = [number for row in self.rows for number in _feature_numbers(row)]
        self.features = Table("x86_features", "u16", features)
        self.without = Table("x86_without", "u16", [self._without(row) for row in self.rows])

    def _without(self, row: Row) -> int:
        """The row without a prefix that ``row``'s prefix makes another one, or 0."""
        if not row.features or row.prefix is None or row.vex:
            return 0
        for number, other in enumerate(self.rows):
            if (other.opcode == row.opcode and other.prefix is None and not row.vex
                    and other.operands == row.operands):  # fmt: skip
                return number
        return 0

    def _map(self, escape: tuple[int, ...], *, vex: bool = False) -> list[int]:
        cells: list[list[int]] = [[] for _ in range(256)]
        exact: list[set[Row]] = [set() for _ in range(256)]
        for number, row in enumerate(self.rows):
            if number < 2 or row.opcode[:-1] != escape or row.vex is not vex:
                continue
            last = row.opcode[-1]
            for opcode in range(last, last + 8) if row.plus else (last,):
                cells[opcode].append(number)
                if not row.plus:
                    exact[opcode].add(row)
        for opcode, cell in enumerate(cells):
            if exact[opcode]:  # an encoding of its own beats one with a register in the opcode
                cells[opcode] = [n for n in cell if not self.rows[n].plus]
        return [self._node(cell) for cell in cells]

    def _node(self, cell: list[int], level: int = 0) -> int:
        """The node that tells the rows of ``cell`` apart, by the selectors from ``level`` on."""
        if not cell:
            return 0
        for index in range(level, len(_SELECTORS)):
            kind, values, fits = _SELECTORS[index]
            matches = [[n for n in cell if fits(self.rows[n], value)] for value in values]
            if any(len(match) != len(cell) for match in matches):
                children = [self._node(match, index + 1) for match in matches]
                self.nodes += children
                return kind << 24 | (len(self.nodes) - len(children))
        return Node.LEAF << 24 | self._most_exact(cell)

    def _most_exact(self, cell: list[int]) -> int:
        """Of rows that all fit, the one that says most about the encoding."""

        def exactness(number: int) -> tuple[bool, ...]:
            row = self.rows[number]
            return (row.prefix is not None, row.rm is not None, row.mod is not None,
                    row.reg is not None, row.length is not None,
                    row.wide is not None)  # fmt: skip

        best = max(cell, key=exactness)
        rivals = [n for n in cell if exactness(n) == exactness(best)]
        if len(rivals) > 1:
            raise TableError("ambiguous: " + "; ".join(str(self.rows[n]) for n in rivals))
        return best


def _fits_mode(row: Row, value: object) -> bool:
    return ("i64" if value else "o64") not in row.attrs


def _fits(attribute: str) -> Callable[[Row, object], bool]:
    return lambda row, value: getattr(row, attribute) in (None, value)


_SELECTORS: list[tuple[Node, tuple[object, ...], Callable[[Row, object], bool]]] = [
    (Node.CODE64, (False, True), _fits_mode),
    (Node.PREFIX, table.PREFIXES, _fits("prefix")),
    (Node.REG, tuple(range(8)), _fits("reg")),
    (Node.MOD, ("m", "r"), _fits("mod")),
    (Node.RM, tuple(range(8)), _fits("rm")),
    (Node.LENGTH, (0, 1), _fits("length")),
    (Node.WIDE, (0, 1), _fits("wide")),
]


@cache
def opcodes() -> Opcodes:
    return Opcodes()
