"""What an editor completes after ``cpu.regs.`` is what the table of registers has.

`python tests/library/test_register_names.py` writes the file anew when the table has grown.
"""

from __future__ import annotations

from pathlib import Path

from pytcg import Cpu
from pytcg.library import register_names
from pytcg.library.registers import attribute_names

_HEAD = '''"""The names of all registers, for editors and type checkers; made from their table.

`python tests/library/test_register_names.py` makes it.
"""

from __future__ import annotations


class RegisterNames:
    """Registers as attributes: all are whole numbers."""

'''


def text() -> str:
    """The file as it must be: declarations in lines of a hundred columns."""
    lines, line = [], ""
    for name in attribute_names():
        longer = f"{line}; {name}: int" if line else f"    {name}: int"
        if len(longer) > 86:
            lines.append(line)
            longer = f"    {name}: int"
        line = longer
    return _HEAD + "".join(f"{each}  # noqa: E702\n" for each in [*lines, line])


def test_every_register_is_declared() -> None:
    assert Path(register_names.__file__).read_text() == text(), __doc__


def test_declared_names_are_attributes() -> None:
    regs = Cpu().regs
    for name in register_names.RegisterNames.__annotations__:
        value = getattr(regs, name)
        assert isinstance(value, int), name
        setattr(regs, name, value)
        assert getattr(regs, name) == value
        assert name in dir(regs)


if __name__ == "__main__":
    Path(register_names.__file__).write_text(text())
