"""All guest programs by name."""

from __future__ import annotations

from typing import Final

from bench import branching, floating, integer, strings
from bench.program import Program

PROGRAMS: Final[dict[str, Program]] = {
    program.name: program
    for family in (integer, branching, strings, floating)
    for program in family.PROGRAMS
}
