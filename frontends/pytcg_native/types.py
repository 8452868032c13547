"""What a restricted-Python module writes: scalar names, struct pointers, tables, ``@native``.

To a type checker the scalars are plain ints; the compiler reads their names from the annotations.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, Generic, ParamSpec, TypeAlias, TypeVar, overload

from pytcg.ir.layout import SCALARS, Scalar, Struct

u8: TypeAlias = int
u16: TypeAlias = int
u32: TypeAlias = int
u64: TypeAlias = int
u128: TypeAlias = int
i8: TypeAlias = int
i16: TypeAlias = int
i32: TypeAlias = int
i64: TypeAlias = int

P = ParamSpec("P")
R = TypeVar("R")


class NativeError(Exception):
    """Code outside the subset; the message starts with file and line."""


class Pointer:
    """A pointer to a struct: subclass it with a ``layout`` and annotate parameters with it.

    ``T(p)`` casts, ``p.field`` and ``p.array[i]`` load and store. Only the compiler ever runs
    this; the methods are here for type checkers.
    """

    layout: ClassVar[Struct]

    def __init__(self, pointer: object):
        raise TypeError("native code runs compiled only")

    def __getattr__(self, name: str) -> Any:
        raise TypeError("native code runs compiled only")

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("native code runs compiled only")

    def __add__(self, offset: int) -> ptr:
        raise TypeError("native code runs compiled only")


class ptr(Pointer):
    """An untyped pointer; adding an int to it adds bytes."""


NULL: Any = 0
"""The null pointer: equal to no block, record or code."""


class Table:
    """A constant table in the compiled object: ``TABLE[i]`` reads an element."""

    def __init__(self, name: str, element: str, values: Sequence[int]):
        self.name = name
        self.element: Scalar = SCALARS[element]
        self.values = list(values)

    def __getitem__(self, index: int) -> int:
        return self.values[index]

    def data(self) -> bytes:
        size = self.element.size
        mask = (1 << (8 * size)) - 1
        return b"".join((v & mask).to_bytes(size, "little") for v in self.values)


@cache
def _functions_of(source: str) -> dict[int, ast.FunctionDef]:
    """All functions of a source by their first line, a decorator's if there is one."""
    found = {}
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef):
            found[min([node.lineno, *(one.lineno for one in node.decorator_list)])] = node
        todo += [part for part in ast.iter_child_nodes(node)
                 if isinstance(part, (ast.stmt, ast.ExceptHandler))]  # fmt: skip
    return found


class NativeFunction(Generic[P, R]):
    """A function to be compiled: its syntax tree, globals and place in the source."""

    def __init__(self, function: Callable[P, R], *, inline: bool, threaded: bool,
                 extern: bool, cold: bool):  # fmt: skip
        self.name = function.__name__
        self.inline = inline
        self.threaded = threaded
        self.extern = extern
        self.cold = cold
        self.scope: dict[str, Any] = function.__globals__
        self.python = function
        code = function.__code__
        self.file = code.co_filename
        self.first_line = code.co_firstlineno
        self._tree: ast.FunctionDef | None = None
        self.__doc__ = function.__doc__

    @property
    def tree(self) -> ast.FunctionDef:
        if self._tree is None:
            linecache.checkcache(self.file)
            tree = _functions_of("".join(linecache.getlines(self.file))).get(self.first_line)
            if tree is None or tree.name != self.name:
                raise OSError(f"{self.file}:{self.first_line}: {self.name} has no source")
            self._tree = tree
        return self._tree

    def error(self, node: ast.AST, message: str) -> NativeError:
        line = getattr(node, "lineno", self.first_line)
        return NativeError(f"{self.file}:{line}: {self.name}: {message}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        raise TypeError(f"{self.name} runs compiled only")


@overload
def native(function: Callable[P, R], /) -> NativeFunction[P, R]: ...
@overload
def native(*, inline: bool = False, threaded: bool = False, extern: bool = False,
           cold: bool = False) -> Callable[[Callable[P, R]], NativeFunction[P, R]]: ...  # fmt: skip
def native(function: Callable[P, R] | None = None, *, inline: bool = False,
           threaded: bool = False, extern: bool = False, cold: bool = False) -> Any:  # fmt: skip
    """Mark a function for native compilation.

    ``inline`` copies its IR into every caller. ``threaded`` gives it the signature of threaded
    code, (env, rec, ram); it ends by returning the record to go on with, or NULL to leave.
    ``extern`` is a declaration: another module defines the function, which may raise. ``cold`` ones
    keep all general registers for their callers, which are regions.
    """

    def wrap(function: Callable[P, R]) -> NativeFunction[P, R]:
        return NativeFunction(function, inline=inline, threaded=threaded, extern=extern,
                              cold=cold)  # fmt: skip

    return wrap(function) if function is not None else wrap
