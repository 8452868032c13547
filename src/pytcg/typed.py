"""What modules take from `typing`, without importing it while a program runs.

That import, with what it imports, is a fifth of a small command (bench/disk.py, "create").
Annotations are never evaluated here, so at run time only NamedTuple has to do something.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for True

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import TypeVar as TypeVar
else:
    from collections import namedtuple

    Any = NoReturn = object

    def TypeVar(name):
        """A name for annotations alone."""
        return name

    class _Fields(type):
        """Makes `class X(NamedTuple)` a tuple with the fields that its annotations name."""

        def __new__(meta, name, bases, body):
            if not bases:
                return super().__new__(meta, name, bases, body)
            fields = body.pop("__annotations__")
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for attribute in body.keys() - {"__module__", "__qualname__"}:
                setattr(made, attribute, body[attribute])
            return made

    class NamedTuple(metaclass=_Fields):
        """`typing.NamedTuple`."""
