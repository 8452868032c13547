"""Disagreements: found, made as small as they get, and told as one-line cases (`pytcg.cases`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pytcg.errors import AssemblyError
from pytcg.fuzz.engines import runner
from pytcg.fuzz.generate import Sequence
from pytcg.fuzz.state import CODE, DATA, DATA_SIZE, FLAGS, NAMES, QUIET, Outcome
from pytcg.library.assembler import assemble

_KNOWN_IN_UNICORN = {
    6: "an instruction that only one of them has",
    13: "Unicorn checks no alignment of SSE's operands",
}
"""Exceptions that may come on one side only, beside Unicorn, and why."""
_VECTORS = ("DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "", "TS", "NP", "SS", "GP", "PF",
            "", "MF", "AC", "MC", "XM")  # fmt: skip
_KEPT = frozenset(("rbx", "rsp", "rip"))


def disagreement(sequence: Sequence, engines: list[str]) -> str:
    """Which engines differ about a sequence, and how; "" if none do."""
    first: Outcome | None = None
    for name in engines:
        outcome = runner(name)(sequence)
        if not outcome.answered:
            continue
        if first is None:
            first = outcome
        elif "unicorn" in (name, engines[0]) and (
                {outcome.vector, first.vector} & _KNOWN_IN_UNICORN.keys()):  # fmt: skip
            continue
        elif found := first.differences(outcome, sequence.undefined, sequence.doubtful):
            what, how = found[0]
            return f"{engines[0]} and {name}: {what} {how}"
    return ""


def minimise(sequence: Sequence, engines: list[str]) -> Sequence:
    """The sequence without the instructions and the state that don't matter."""
    number = 0
    while number < len(sequence.code) and len(sequence.code) > 1:
        shorter = sequence.without(number)
        if shorter is not sequence and disagreement(shorter, engines):
            sequence = shorter
        else:
            number += 1
    for name in NAMES:
        quiet = {**sequence.start, name: QUIET.get(name, 0)}
        if name not in _KEPT:
            sequence = _if_bad(sequence, replace(sequence, start=quiet), engines)
    for size in (DATA_SIZE, DATA_SIZE // 8, 8):
        for at in range(0, DATA_SIZE, size):
            if any(sequence.data[at : at + size]):
                data = sequence.data[:at] + bytes(size) + sequence.data[at + size :]
                sequence = _if_bad(sequence, replace(sequence, data=data), engines)
    return sequence


def _if_bad(sequence: Sequence, smaller: Sequence, engines: list[str]) -> Sequence:
    """``smaller``, if it is still a sequence and bad, which another start may change."""
    known = smaller.of(smaller.code)
    return known if known is not None and disagreement(known, engines) else sequence


def report(seed: int, sequence: Sequence, engines: list[str]) -> str:
    """A disagreement in lines: what differs, and a case that holds for the second engine named."""
    small = minimise(sequence, engines)
    return f"seed {seed}: {disagreement(small, engines)}\n    {case(small, engines)}"


def case(sequence: Sequence, engines: list[str]) -> str:
    """A line for `pytcg.cases`: what the engine that differs from the first says."""
    mine = runner(engines[0])(sequence)
    other = next(name for name in engines[1:] if disagreement(sequence, [engines[0], name]))
    right = runner(other)(sequence)
    start = [f"{name}={value:#x}" for name, value in sequence.start.items()
             if value != QUIET.get(name, 0) and name != "rip"]  # fmt: skip
    start += [f"[{DATA + at:#x}]={word:#x}" for at in range(0, DATA_SIZE, 8)
              if (word := int.from_bytes(sequence.data[at : at + 8], "little"))]  # fmt: skip
    after = [f"#{_VECTORS[right.vector]}"] if right.vector is not None else []
    for what, _ in mine.differences(right, sequence.undefined, sequence.doubtful):
        if what.startswith("["):
            at = int(what[1:-1], 16) - DATA
            after.append(f"{what}={int.from_bytes(right.data[at : at + 8], 'little'):#x}")
        elif what == "rflags":
            after += _flags(mine, right, sequence)
        elif what in NAMES:
            after.append(f"{what}={right.registers[what]:#x}")
    return f"{_assembly(sequence)} | {' '.join(start)} => {' '.join(after)}"


def _flags(mine: Outcome, right: Outcome, sequence: Sequence) -> Iterator[str]:
    ignored = sequence.undefined if right.vector is None else sequence.doubtful
    wrong = (mine.registers["rflags"] ^ right.registers["rflags"]) & ~ignored
    for name, bit in FLAGS.items():
        if wrong & bit:
            yield f"{name}={int(bool(right.registers['rflags'] & bit))}"


def _assembly(sequence: Sequence) -> str:
    """The text, if the assembler makes these bytes of it; else the bytes."""
    code, text = b"".join(sequence.code), "; ".join(sequence.text)
    try:
        same = assemble(text, 64, CODE, ()) == code
    except AssemblyError:
        same = False
    return text if same else ".byte " + ", ".join(f"{byte:#x}" for byte in code)
