"""Numbers as the monitor's commands take them: sums of products, with registers.

QEMU's grammar: `*`, `/` and `%` bind tightest, then `&`, `|` and `^`, then `+` and `-`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pytcg.monitor.human.table import UsageError

_TOKEN: Final = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+|\d+)|\$([A-Za-z0-9_.]+)|'(\\?.)'|([-+*/%&|^~()]))"
)
_LEVELS: Final = ("+-", "&|^", "*/%")
_MASK: Final = (1 << 64) - 1
DEEPEST: Final = 100  # parentheses and signs within each other


class Expression:
    """One expression's text; ``register`` gives a register's value, or raises KeyError."""

    def __init__(self, text: str, register: Callable[[str], int]) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._register = register

    def value(self) -> int:
        """64 bits; UsageError."""
        result = self._sum(0)
        if self._text[self._at :].strip():
            raise UsageError(f"invalid char '{self._text[self._at:].strip()[0]}' in expression")
        return result

    def _peek(self, known: str) -> str:
        """The operator that comes next, if it is one of these; then it is taken."""
        found = _TOKEN.match(self._text, self._at)
        if found is None or not found[4] or found[4] not in known:
            return ""
        self._at = found.end()
        return found[4]

    def _sum(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._unary()
        left = self._sum(level + 1)
        while sign := self._peek(_LEVELS[level]):
            left = self._apply(sign, left, self._sum(level + 1)) & _MASK
        return left

    @staticmethod
    def _apply(sign: str, left: int, right: int) -> int:
        match sign:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "&":
                return left & right
            case "|":
                return left | right
            case "^":
                return left ^ right
        if right == 0:
            raise UsageError("division by zero")
        return left // right if sign == "/" else left % right

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UsageError("expression is too deep")
        try:
            return self._operand() & _MASK
        finally:
            self._depth -= 1

    def _operand(self) -> int:
        match self._peek("+-~("):
            case "+":
                return self._unary()
            case "-":
                return -self._unary()
            case "~":
                return ~self._unary()
            case "(":
                inner = self._sum(0)
                if not self._peek(")"):
                    raise UsageError("')' expected")
                return inner
        return self._plain()

    def _plain(self) -> int:
        found = _TOKEN.match(self._text, self._at)
        if found is None or found[4]:
            rest = self._text[self._at :].strip()
            raise UsageError(f"invalid char '{rest[0]}' in expression" if rest
                             else "unexpected end of expression")  # fmt: skip
        self._at = found.end()
        if found[1]:
            return int(found[1], 0 if found[1][:1] != "0" or found[1][1:2] in ("x", "X") else 8)
        if found[3]:
            return ord(found[3][-1])
        try:
            return self._register(found[2])
        except KeyError:
            raise UsageError("unknown register") from None
