"""Dead stores into the CPU state: bytes that are overwritten before anything may read them.

A backward data-flow over (parameter, byte offset): after a store its bytes are *dead above it*. A
load from the same parameter revives its bytes. Calls, exits and loads through any other pointer
that might lead back (one that was itself loaded) revive everything. The parameters of threaded
code (CPU state, record, RAM window) never overlap; those of other functions may, so there only the
first counts and a load from another revives everything. A flag that the next
instruction overwrites is the common case: dead flags and dead state stores are one thing.
"""

from __future__ import annotations

from pytcg.ir.blocks import Block, Function, Op, Value
from pytcg.ir.flow import reachable
from pytcg.ir.ops import BITS, Type

Place = tuple[int, int]  # parameter's id, byte offset from it
Bytes = frozenset[Place]

_OBSERVERS = {"call", "callptr", "enter"}


def remove_dead_stores(function: Function) -> None:
    """Drop stores to parameters' constant offsets that are overwritten unseen."""
    places = _places(function)
    blocks = reachable(function)
    entry = _solve(blocks, places)
    for block in blocks:
        dead = _at_end(block, entry)
        kept: list[Op] = []
        for op in reversed(block.ops):
            if op.name == "st" and _covered(_span(op, places), dead):
                continue
            dead = _above(op, dead, places)
            kept.append(op)
        block.ops = kept[::-1]


def _places(function: Function) -> dict[int, Place]:
    """Values that are a parameter plus a constant."""
    bases = function.params if function.threaded else function.params[:1]
    found: dict[int, Place] = {p.id: (p.id, 0) for p in bases}
    for block in reachable(function):
        for op in block.ops:
            if op.name == "ptradd" and op.out is not None:
                base, offset = op.args
                if base.id in found and base.const is None and offset.const is not None:
                    sign = (offset.const ^ (1 << 63)) - (1 << 63)
                    found[op.out.id] = (found[base.id][0], found[base.id][1] + sign)
    return found


def _solve(blocks: list[Block], places: dict[int, Place]) -> dict[str, Bytes]:
    """Dead bytes at every block's start: the greatest fixed point, from everything downward."""
    everything = frozenset(place for block in blocks for op in block.ops if op.name == "st"
                           for place in _span(op, places))  # fmt: skip
    start = {block.label: everything for block in blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            dead = _at_end(block, start)
            for op in reversed(block.ops):
                dead = _above(op, dead, places)
            if dead != start[block.label]:
                start[block.label], changed = dead, True
    return start


def _at_end(block: Block, start: dict[str, Bytes]) -> Bytes:
    """What is dead behind the block's terminal: nothing when it leaves the function."""
    after = [start[target.label] for target in block.successors()]
    return frozenset.intersection(*after) if after else frozenset()


def _above(op: Op, dead: Bytes, places: dict[int, Place]) -> Bytes:
    """Dead bytes before ``op``, given those after it."""
    if op.name == "st":
        return dead | frozenset(_span(op, places))
    if op.name == "ld":
        place = _place(op.args[0], places)
        return frozenset() if place is None else dead - frozenset(_bytes(place, op.type_attr()))
    return frozenset() if op.name in _OBSERVERS else dead


def _place(pointer: Value, places: dict[int, Place]) -> Place | None:
    return places.get(pointer.id) if pointer.const is None else None


def _bytes(place: Place, type_: Type) -> list[Place]:
    return [(place[0], place[1] + i) for i in range(max(1, BITS[type_] // 8))]


def _span(op: Op, places: dict[int, Place]) -> list[Place]:
    """The bytes a store writes, if they are known."""
    value, pointer = op.args
    place = _place(pointer, places)
    return [] if place is None else _bytes(place, value.type)


def _covered(span: list[Place], dead: Bytes) -> bool:
    return bool(span) and dead.issuperset(span)
