"""Calls out of a region of natives that see the whole processor: it is in env while they run.

What a region has in locals is stored before such a call and loaded again behind it. Which parts
that are is known when all blocks are built, so both are blocks of their own, filled at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytcg.exec.layout import EXEC_ENV
from pytcg.ir.blocks import Block, Op, Value
from pytcg.ir.ops import Type
from pytcg_native.compiler import Program
from pytcg_native.expressions import ir_type
from pytcg_native.types import NativeFunction
from pytcg_x86.region.builder import FlagState, StateBuilder


class HelperCalls:
    """The helper calls of one region."""

    def __init__(self, program: Program, builder: StateBuilder):
        self.program = program
        self.b = builder
        self.spills: list[tuple[Block, Block, int]] = []  # what to fill, where it goes on, line
        self.reloads: list[tuple[Block, Block, int]] = []

    def mark(self) -> tuple[int, int]:
        """A point in the building to go back to by `cut`."""
        return len(self.spills), len(self.reloads)

    def cut(self, mark: tuple[int, int]) -> None:
        """Forget the calls since `mark`."""
        del self.spills[mark[0] :], self.reloads[mark[1] :]

    def call(self, callee: NativeFunction[Any, Any], args: list[Value],
             faulted: Block) -> Value | None:  # fmt: skip
        """Store, call, load; where the native raises, the state is in env at ``faulted``."""
        b = self.b
        b.merge_flags()
        spill, called, reload, after = (b.new_block(n) for n in ("spill", "call", "reload", "on"))
        b.br(spill)
        self.spills.append((spill, called, b.line))
        b.place(called)
        result = self._emit(callee, args)
        if callee.name in self.program.raising:
            pending = b.emit("ld", b.state_place(EXEC_ENV.offset("exception_pending")),
                             type=Type.I8)  # fmt: skip
            b.brif(pending.eq(0), reload, faulted, likely=True)
        else:
            b.br(reload)
        self.reloads.append((reload, after, b.line))
        b.place(after)
        b.flags = FlagState()
        return result

    def _emit(self, callee: NativeFunction[Any, Any], args: list[Value]) -> Value | None:
        type_ = ir_type(self.program.signatures[callee.name].result)
        attrs: dict[str, object] = {"callee": callee.name, "type": type_}
        if callee.cold:
            attrs["cold"] = True
        plain = [self.b.plain(arg) for arg in args]
        if type_ is Type.VOID:
            self.b.emit_effect("call", *plain, **attrs)
            return None
        return self.b.emit("call", *plain, **attrs)

    def fill(self) -> None:
        """Fill the blocks, now that all parts are known."""
        b = self.b
        for spill, called, b.line in self.spills:
            b.place(spill)
            b.store_parts(settled=True)
            b.br(called)
        for reload, after, b.line in self.reloads:
            b.place(reload)
            b.load_parts()
            b.br(after)

    def changes_state(self, name: str) -> bool:
        """Whether a native does more than look: an access before it may then not be repeated."""
        if name not in _CHANGES:
            _CHANGES[name] = any(self._acts(reached) for reached in self._reached(name))
        return _CHANGES[name]

    def _reached(self, name: str) -> set[str]:
        """A native and all that it calls."""
        reached, todo = {name}, [name]
        while todo:
            fresh = {str(op.attrs["callee"]) for op in self._ops(todo.pop()) if op.name == "call"}
            todo += fresh - reached
            reached |= fresh
        return reached

    def _acts(self, name: str) -> bool:
        """Whether a native's own ops have effects, as far as they are known."""
        return self.program.natives[name].extern or any(
            op.name in _EFFECTS for op in self._ops(name))

    def _ops(self, name: str) -> Iterator[Op]:
        native = self.program.natives[name]
        if not native.extern:
            for block in self.program.compile(native).blocks:
                yield from block.ops


_EFFECTS = {"st", "stg", "fill", "callptr", "enter", "tail"}
_CHANGES: dict[str, bool] = {}
"""What `changes_state` has found of each native."""
