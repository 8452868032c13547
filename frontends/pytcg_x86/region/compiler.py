"""A region: blocks of guest code lowered into one function.

The same lowerings that make the handlers are run over the records of many blocks, with the record's
fields as constants, registers in locals (`region_state`), and branches between the blocks as
branches of the function. Anything out of the ordinary (a TLB miss that is no plain RAM, a fault, an
instruction that needs the whole processor) *leaves*: an exit stores the state as it was before the
instruction and lets threaded code do it. So a region raises nothing and has nothing to undo.

Code is independent of where it runs: guest addresses are reckoned from the entry's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pytcg.exec.invalidate import jump_slot
from pytcg.exec.layout import (
    EXEC_ENV,
    JUMP,
    KEPT_PAGE,
    KEPT_PAGES,
    PAGE_BITS,
    PAGE_MASK,
    PAGE_SIZE,
    TB,
    TLB_ENTRY,
)
from pytcg.exec.leave import Leave
from pytcg.exec.regions import JUDGED, Ending, Near
from pytcg.ir.blocks import Block, Function, Local, Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.opt.pipeline import optimise
from pytcg.softmmu import access
from pytcg_native.compiler import Program
from pytcg_native.types import NativeFunction
from pytcg_x86.core.flags import Flags
from pytcg_x86.core.form import Instruction, context_of, row_of
from pytcg_x86.core.state import ENV, Vector
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.formkey import KEY_DEAD, KEY_SECOND, RELATIVE
from pytcg_x86.region.builder import (
    FLAG_PARTS,
    TOP,
    Comparison,
    FlagState,
    NotInRegion,
    Recipe,
    StateBuilder,
    Thunk,
    truncate,
)
from pytcg_x86.region.flags import Operation
from pytcg_x86.region.helper import HelperCalls
from pytcg_x86.vector.mxcsr import MASKS

MAX_RETURNS = 4
"""Return sites that a RET compares with before it looks its target up."""
REACH = 1024
"""How far from another an access by the same base is likely on its page."""
PLAIN_KEY = ((1 << KEY_SECOND) - 1) & ~(1 << KEY_DEAD)
"""The bits of a form's key without what block improvement made of it."""
_RSP, _ABSOLUTE = ENV.offset("gpr", 4), -1
_PLACES = [ENV.offset("gpr", i) for i in range(16)] + [_ABSOLUTE]
"""What a kept page is accessed by: a base register, or none."""
assert 2 * 2 * len(_PLACES) <= KEPT_PAGES
_PREDICATES = {1: "ult", 2: "eq", 3: "ule", 6: "slt", 7: "sle"}
"""Condition codes (without their lowest bit) as comparisons."""
_KEEPING_CARRY = {Operation.ADD: Operation.INC, Operation.SUB: Operation.DEC}


@dataclass(slots=True)
class Insn:
    """A record of a request."""

    key: int
    fields: dict[str, int]
    near: int  # `Near` bits
    effects: int


@dataclass(slots=True)
class GuestBlock:
    """A block of a request; addresses count from the seed's."""

    number: int
    pc: int
    insns: list[Insn]
    ending: int
    taken: int
    fall: int
    entry: bool
    hits: int
    root: bool  # no direct branch of the region leads to it


@dataclass(frozen=True, slots=True)
class Page:
    """A page kept in env (`KeptPage`): the one accessed last by what an address is made of."""

    number: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Anchor:
    """An access that others are made from: its address, and what it was allowed."""

    linear: Value
    distance: int  # from its base
    size: int
    writable: bool


@dataclass(slots=True)
class Exit:
    """A way out: where it leaves to, and what the state is there."""

    block: Block
    flags: FlagState
    target: Value | int  # pc, or its distance from the seed
    refund: int  # instructions paid for and not run
    why: Leave
    line: int  # of the op that leaves

    @property
    def bails(self) -> bool:
        """Whether the instruction there is left to threaded code."""
        return self.why >= Leave.ACCESS


class RegionFlags(Flags):
    """Flags as thunks."""

    t: RegionTranslator

    def __init__(self, translator: RegionTranslator):
        super().__init__(translator)
        self.thunks: dict[str, Thunk] = {}
        self.comparison: Comparison | None = None
        self.recipe: Recipe | None = None

    def _defer(self, **thunks: Thunk) -> None:
        self.thunks.update(thunks)

    def result(self, value: Value) -> None:
        self.pending.pop("z", None)
        self.pending.pop("s", None)
        self._defer(z=lambda: value.sext(Type.I64), s=lambda: value.sext(Type.I64))

    def add(self, result: Value, a: Value, b: Value) -> None:
        op = self.t.b.op
        self._defer(c=lambda: result.ult(a).zext(Type.I8),
                    o=lambda: op("addo", a, b).zext(Type.I8),
                    x=lambda: (a ^ b).resize(Type.I8))  # fmt: skip
        self.result(result)
        self.recipe = Recipe(Operation.ADD, a, b)

    def sub(self, result: Value, a: Value, b: Value) -> None:
        op = self.t.b.op
        self._defer(c=lambda: a.ult(b).zext(Type.I8),
                    o=lambda: op("subo", a, b).zext(Type.I8),
                    x=lambda: (a ^ b).resize(Type.I8))  # fmt: skip
        self.result(result)
        self.comparison = Comparison(a, b)
        self.recipe = Recipe(Operation.SUB, a, b)

    def adc(self, result: Value, a: Value, b: Value, carry: Value) -> None:
        def c() -> Value:
            partial = a + b
            return (partial.ult(a) | result.ult(partial)).zext(Type.I8)

        self._defer(c=c, o=lambda: ((a ^ result) & (b ^ result)).slt(0).zext(Type.I8),
                    x=lambda: (a ^ b).resize(Type.I8))  # fmt: skip
        self.result(result)

    def sbb(self, result: Value, a: Value, b: Value, borrow: Value) -> None:
        def c() -> Value:
            return (a.ult(b) | (a - b).ult(borrow.zext(a.type))).zext(Type.I8)

        self._defer(c=c, o=lambda: ((a ^ b) & (a ^ result)).slt(0).zext(Type.I8),
                    x=lambda: (a ^ b).resize(Type.I8))  # fmt: skip
        self.result(result)

    def logic(self, result: Value) -> None:
        b = self.t.b
        self._defer(c=lambda: b.const(0, Type.I8), o=lambda: b.const(0, Type.I8),
                    x=lambda: result.resize(Type.I8))  # fmt: skip
        self.result(result)
        zero = b.const(0, result.type)
        self.comparison = Comparison(result, zero)
        self.recipe = Recipe(Operation.LOGIC, result, zero)

    def put(self, *, cf: Value | None = None, of: Value | None = None, zf: Value | None = None,
            af: Value | None = None) -> None:  # fmt: skip
        if af is not None and "s" in self.thunks:
            bit, sign = af, self.thunks["s"]
            self._defer(x=lambda: (bit.zext(Type.I8) << 4) ^ sign().trunc(Type.I8))
            af = None
        for slot, value in (("c", cf), ("o", of), ("z", zf), ("x", af)):
            if value is not None:
                self.thunks.pop(slot, None)
        self.comparison = self.recipe = None
        super().put(cf=cf, of=of, zf=zf, af=af)

    def keep_carry(self) -> None:
        """CF stays what it was."""
        self.thunks.pop("c", None)
        self.comparison = None
        if self.recipe is not None:
            operation = _KEEPING_CARRY[self.recipe.operation]
            self.recipe = Recipe(operation, self.recipe.a, self.recipe.b)
        super().keep_carry()

    def commit(self) -> None:
        b = self.t.b
        values = {FLAG_PARTS[slot].number: _constant(value)
                  for slot, value in self.pending.items()}  # fmt: skip
        thunks = {FLAG_PARTS[slot].number: thunk for slot, thunk in self.thunks.items()}
        if values or thunks:
            b.defer({**values, **thunks}, self.comparison, self.recipe)
        self.pending, self.thunks = {}, {}
        self.comparison = self.recipe = None

    def condition(self, code: int) -> Value:
        known = self.t.b.flags.comparison
        if known is None or code >> 1 not in _PREDICATES:
            return super().condition(code)
        a, b = known.a, known.b
        value = self.t.b.op(_PREDICATES[code >> 1], a, b)
        return value ^ 1 if code & 1 else value


def _constant(value: Value) -> Thunk:
    return lambda: value


class RegionTranslator(Translator):
    """Emits one instruction of a region."""

    b: StateBuilder
    registers_are_values = True

    def __init__(self, region: RegionCompiler, block: GuestBlock, position: int):
        self.region = region
        self.source = block
        self.insn = block.insns[position]
        self.position = position
        super().__init__(region.program, region.function, region.b, context_of(self.insn.key))
        self.changed = False
        """Whether a helper was called that may change something."""
        self.place = self._place()
        """What the addresses of its accesses are made of: those of one kind stay on a page."""

    def _place(self) -> int | None:
        if "stack" in row_of(self.insn.key).attrs:
            return _RSP
        if self.cx.ea in ("base", "sib"):
            base = self.insn.fields["base"]
            return base if base in _PLACES else _ABSOLUTE
        return _ABSOLUTE if self.cx.ea == "disp" else None

    def make_flags(self) -> Flags:
        return RegionFlags(self)

    # Records -----------------------------------------------------------------------------------

    def field(self, name: str, type_: Type | None = None) -> Value:
        value = self.insn.fields[name]
        type_ = type_ or _FIELD_TYPES[name]
        if self._is_distance(name):
            return self.region.pc_at(value).resize(type_)
        return self.b.const(value, type_)

    def record(self) -> Value:
        raise NotInRegion("has no record")

    def _is_distance(self, name: str) -> bool:
        insn = self.insn
        if name == "disp":
            return bool(insn.fields["shift"] & RELATIVE or insn.near & Near.DISP)
        return name == "imm" and bool(insn.near & Near.IMM)

    def packed_field(self, shift: int) -> Value:
        offset = self.insn.fields["imm"] >> shift & 0xFFFF
        return self.b.const(offset - (offset >> 15 << 16), Type.I64)

    def pc(self) -> Value:
        return self.region.pc_at(self.insn.fields["pc"])

    def next_pc(self) -> Value:
        return self.wrap_pc(self.region.pc_at(self.insn.fields["pc"] + self.insn.fields["length"]))

    # Leaving -----------------------------------------------------------------------------------

    @property
    def unwind(self) -> Block:
        """The exit before this instruction."""
        if self.changed:
            raise NotInRegion("a fault behind a helper")
        if self._unwind is None:
            self._unwind = self.region.exit_to(
                self.source, self.insn.fields["pc"],
                refund=len(self.source.insns) - self.position, why=Leave.ACCESS)  # fmt: skip
        return self._unwind

    def finish(self) -> None:
        pass

    def raise_if(self, condition: Value, vector: int, error: int | None = None) -> None:
        if condition.const is not None:
            if condition.const == 0:
                return
            raise NotInRegion("raises")
        go_on = self.b.new_block("ok")
        self.b.brif(condition, self.unwind, go_on, likely=False)
        self.b.place(go_on, keep=True)

    def need(self, condition: Value, otherwise: Block, *, once: str = "") -> None:
        if once and (once, 0) in self.b.known:
            return
        go_on = self.b.new_block("ok")
        self.b.brif(condition, go_on, otherwise, likely=True)
        self.b.place(go_on, keep=True)
        if once:
            self.b.known[once, 0] = condition

    def shortcut(self, fast: Callable[[Block], None], slow: Callable[[], None]) -> None:
        fast(self.unwind)

    def check_target(self, wild: Value, pc: Value, pushed: Value | None = None) -> None:
        self.raise_if(wild, Vector.GP, 0)

    def rarely(self, condition: Value, native: NativeFunction[Any, Any]) -> None:
        key = native.name, 0
        if key not in self.b.known:  # no operation of a region makes it so
            self.raise_if(condition, Vector.MF)
            self.b.known[key] = condition

    def check_masked(self) -> None:
        self.region.needs_masked = True

    # Memory ------------------------------------------------------------------------------------

    def load(self, bits: int, linear: Value) -> Value:
        where = self.region.probe(self, linear, bits, write=False)
        return self.b.emit("ldg", self.b.ptradd(self.ram, where), type=INT_OF_BITS[bits])

    def modify_at(self, bits: int, linear: Value) -> tuple[Value, Callable[[Value], None]]:
        place = self.b.ptradd(self.ram, self.region.probe(self, linear, bits, write=True))
        old = self.b.emit("ldg", place, type=INT_OF_BITS[bits])
        return old, lambda value: self.b.emit_effect("stg", value, place)

    def store(self, bits: int, linear: Value, value: Value) -> None:
        where = self.region.probe(self, linear, bits, write=True)
        self.b.emit_effect("stg", value, self.b.ptradd(self.ram, where))

    def load_ten(self, linear: Value) -> tuple[Value, ...]:
        where = self.region.probe(self, linear, 80, write=False)
        return (self.b.emit("ldg", self.b.ptradd(self.ram, where), type=Type.F80),)

    def store_ten(self, linear: Value, parts: tuple[Value, ...]) -> None:
        where = self.region.probe(self, linear, 80, write=True)
        self.b.emit_effect("stg", parts[0], self.b.ptradd(self.ram, where))

    def load_wide(self, linear: Value) -> list[Value]:
        where = self.region.probe(self, linear, 256, write=False)
        return [self.b.emit("ldg", self.b.ptradd(self.ram, where + at), type=Type.I128)
                for at in (0, 16)]  # fmt: skip

    def store_wide(self, linear: Value, halves: list[Value]) -> None:
        where = self.region.probe(self, linear, 256, write=True)
        for at, half in zip((0, 16), halves, strict=True):
            self.b.emit_effect("stg", half, self.b.ptradd(self.ram, where + at))

    # Calls and control -------------------------------------------------------------------------

    def call(self, callee: NativeFunction[Any, Any], *args: Value) -> Value | None:
        if callee.inline:
            self.program.add([callee])
            raises = callee.name in self.program.raising
            return self.b.inline(self.region.inlined(callee), list(args),
                                 self.unwind if raises else None)  # fmt: skip
        return self.region.call(self, callee, list(args))

    @contextmanager
    def when(self, condition: Value, *, likely: bool | None = None) -> Iterator[None]:
        b = self.b
        body, skip, after = b.new_block("when"), b.new_block("skip"), b.new_block("endwhen")
        b.brif(condition, body, skip, likely=likely)
        before, known = b.flags.copy(), dict(b.known)
        b.place(body, keep=True)
        self._depth += 1
        yield
        self._depth -= 1
        changed = b.flags != before
        if not b.block.closed:
            if changed:
                b.merge_flags()
            b.br(after)
        inside = b.known
        b.place(skip)
        b.flags, b.known = before, dict(known)
        if changed:
            b.merge_flags()
        b.br(after)
        outside = b.known
        b.place(after)
        b.known = {n: value for n, value in outside.items() if inside.get(n) is value}

    def next(self) -> None:
        pass

    def lookup(self, pc: Value) -> None:
        if self.cx.code_size != 64:
            raise NotInRegion("may change the size of rIP")
        self.b.br(self.region.exit_to(self.source, pc, refund=0, why=Leave.CHANGED))

    def again(self) -> None:
        self.b.br(self.region.exit_to(self.source, self.insn.fields["pc"],
                                      refund=len(self.source.insns) - self.position,
                                      why=Leave.WANTED))  # fmt: skip

    def helper(self, callee: NativeFunction[Any, Any], args: list[Value]) -> Value | None:
        """Call a native that sees the whole state."""
        region = self.region
        if self.program.signatures[callee.name].noreturn:
            raise NotInRegion(callee.name)
        faulted = region.fault_exit(self)
        if region.helpers.changes_state(callee.name):
            self.changed = True
        # Counters of instructions look at it (`system.counters`).
        self.b.st(self.b.get(region.budget), region.env, EXEC_ENV.offset("budget"))
        result = region.helpers.call(callee, args, faulted)
        if self.b.top is not None:  # `_insn` makes sure
            self.b.top = (self.b.top + _POPS.get(row_of(self.insn.key).mnemonic, 0)) & 7
        return result

    def branch(self, condition: Value) -> None:
        if self.changed:
            raise NotInRegion("a branch behind a helper")
        taken, fall = self.region.edge(self, "taken"), self.region.edge(self, "fall")
        self.b.brif(condition, taken, fall)
        self.region.finish_edges()

    def jump(self) -> None:
        if self.changed:
            raise NotInRegion("a jump behind a helper")
        self.b.br(self.region.edge(self, "taken"))
        self.region.finish_edges()

    def indirect(self, pc: Value) -> None:
        if self.changed:
            raise NotInRegion("a transfer behind a helper")
        b, region = self.b, self.region
        for block in region.likely_targets(self.source):
            here, other = region.edge_to(self.source, block), b.new_block("other")
            b.brif(pc.eq(region.pc_at(block.pc)), here, other)
            region.finish_edges()
            b.place(other, keep=True)
        if len(region.entries) > 1:
            region.dispatch(self.source, pc)
        else:
            b.br(region.exit_to(self.source, pc, refund=0, why=Leave.COMPUTED))


_POPS = {"FYL2X": 1, "FYL2XP1": 1, "FPATAN": 1, "FPTAN": -1, "FXTRACT": -1, "FSINCOS": -1,
         "FBLD": -1, "FBSTP": 1, "FISTTP": 1,
         "FINCSTP": 1, "FDECSTP": -1, "FFREEP": 1, "FSTPNCE": 1}  # fmt: skip
"""What helpers usually do to the x87 stack's top."""
_FIELD_TYPES = {"imm": Type.I64, "disp": Type.I64, "pc": Type.I64, "a": Type.I16, "b": Type.I16,
                "base": Type.I16, "index": Type.I16, "segment": Type.I8, "shift": Type.I8,
                "length": Type.I8}  # fmt: skip


class RegionCompiler:
    """Builds the function of one region."""

    def __init__(self, program: Program, name: str, blocks: list[GuestBlock], *, spans: bool,
                 user: bool, top: int | None):  # fmt: skip
        self.program = program
        self.user = user
        params = [("env", Type.PTR), ("rec", Type.PTR), ("ram", Type.PTR)]
        self.function = Function(name, params, Type.VOID, threaded=True, region=True)
        self.b = StateBuilder(self.function)
        self.blocks = blocks
        self.at = {block.pc: block for block in blocks}
        self.lines = list(accumulate((len(block.insns) for block in blocks), initial=1))
        """The line (`Op.line`) of each block's first instruction."""
        self.spans = spans
        self.tops: dict[int, int | None] = {} if top is None else {blocks[0].number: top}
        """The x87 stack's top that a block is made for, or that it is not known; without x87 code
        there is none."""
        self.wrong_top: dict[int, Block] = {}
        """Where entries go that are made for another top."""
        self.needs_masked = False
        self.helpers = HelperCalls(program, self.b)
        self.faults: list[tuple[Block, RegionTranslator]] = []
        self.exits: list[Exit] = []
        self.dispatcher: tuple[Block, Local] | None = None
        self.lost: Block | None = None
        self.env, self.rec, self.ram = self.function.params
        self.heads = {block.number: self.b.new_block(f"g{block.number}_") for block in blocks}
        self.flags_in: dict[int, FlagState] = {}
        self._edges: list[tuple[Block, GuestBlock, FlagState]] = []
        self.base = self.b.local(Type.I64, "base")
        self.budget = self.b.local(Type.I64, "budget")
        self.begun = self.b.local(Type.I64, "begun")
        self.anchors: dict[int, Anchor] = {}
        """By the id of where in the RAM window they are."""
        self.died = self.b.local(Type.I64, "died")
        """How many regions had died when this one was entered."""

    # Guest addresses ---------------------------------------------------------------------------

    def pc_at(self, distance: int) -> Value:
        """The guest address that far from the seed's."""
        key = "base", 0
        base = self.b.known.get(key)
        if base is None:
            base = self.b.known[key] = self.b.get(self.base)
        return base + distance

    # The whole ---------------------------------------------------------------------------------

    def build(self) -> Function:
        """The function; afterwards `entries` are the blocks it can be entered at, in order."""
        self._plan()
        entry = self.b.block
        for block in self.order:
            self._block(block)
        self._exits()
        self._faults()
        self.helpers.fill()
        self._entry(entry)
        return self.function

    def successors(self, block: GuestBlock) -> list[GuestBlock]:
        """In-region successors by direct transfers."""
        wanted = []
        last = row_of(block.insns[-1].key).mnemonic
        if block.ending == Ending.BRANCH:
            wanted.append(block.taken)
            if last not in ("JMP", "CALL"):
                wanted.append(block.fall)
        elif block.ending == Ending.FALL:
            wanted.append(block.fall)
        return [self.at[pc] for pc in wanted if pc in self.at]

    def likely_targets(self, block: GuestBlock) -> list[GuestBlock]:
        """Where a computed branch goes most: return sites, or a call's last target."""
        last = row_of(block.insns[-1].key).mnemonic
        if last in ("RET", "RETI"):
            return self._returns
        return [self.at[block.taken]] if last == "CALLI" and block.taken in self.at else []

    def _plan(self) -> None:
        """Entries, order, joins and loop heads."""
        last = {b.number: row_of(b.insns[-1].key).mnemonic for b in self.blocks}
        calls = [b for b in self.blocks
                 if last[b.number] in ("CALL", "CALLI") and b.fall in self.at]  # fmt: skip
        inner = [b for b in calls if b.taken in self.at]
        self._returns = sorted({self.at[b.fall].number: self.at[b.fall] for b in inner}.values(),
                               key=lambda b: -b.hits)[:MAX_RETURNS]  # fmt: skip
        self.entries = [b for b in self.blocks if b.entry or b is self.blocks[0]]
        for block in calls:
            after = self.at[block.fall]
            if after not in self._returns and after not in self.entries:
                self.entries.append(after)
        if "JMPI" in last.values():
            self.entries += [b for b in self.blocks if b.root and b not in self.entries]
        graph = {b.number: [s.number for s in self.successors(b)] for b in self.blocks}
        for block in self.blocks:
            if last[block.number] in ("JMPI", "CALLI", "RET", "RETI"):
                graph[block.number] += [b.number for b in self.likely_targets(block)]
                if len(self.entries) > 1:
                    graph[block.number] += [b.number for b in self.entries]
        order: list[int] = []
        state: dict[int, int] = {}
        self.loops: set[int] = set()
        for root in self.entries:
            stack: list[tuple[int, Iterator[int]]] = []
            if root.number not in state:
                state[root.number] = 1
                stack.append((root.number, iter(graph[root.number])))
            while stack:
                number, following = stack[-1]
                for successor in following:
                    if successor not in state:
                        state[successor] = 1
                        stack.append((successor, iter(graph[successor])))
                        break
                    if state[successor] == 1:
                        self.loops.add(successor)
                else:
                    state[number] = 2
                    order.append(number)
                    stack.pop()
        self.order = [self.blocks[number] for number in reversed(order)]
        reached = set(order)
        count = {number: 0 for number in reached}
        for number in reached:
            for successor in set(graph[number]):
                count[successor] += 1
        roots = {b.number for b in self.entries}
        self.joins = {n for n in reached if count[n] != 1 or n in roots or n in self.loops}
        self.insns = sum(len(b.insns) for b in self.order)

    def _entry(self, entry: Block) -> None:
        """Load the state and go to the entry's block, unless somebody wants the loop."""
        b = self.b
        b.block, b.known = entry, {}
        budget = b.ld(Type.I64, self.env, EXEC_ENV.offset("budget"))
        quiet = b.ld(Type.I32, self.env, EXEC_ENV.offset("exit_request")).eq(0)
        quiet = quiet & b.op("sge", budget, b.const(self.insns, Type.I64))
        if self.needs_masked:
            mxcsr = b.ld(Type.I32, self.env, ENV.offset("mxcsr"))
            quiet = quiet & (mxcsr & MASKS).eq(MASKS)
        go, slow = b.new_block("go"), b.new_block("slow")
        if self.spans:
            self._check_pages(quiet, slow)
            quiet = b.const(1, Type.I1)
        b.brif(quiet, go, slow, likely=True)
        b.place(slow)
        b.settle_stored_flags()
        b.emit_effect("tail", b.symbol("tb_head"), self.env, self.rec, self.ram)
        b.place(go)
        b.set(self.budget, budget)
        b.set(self.begun, budget)
        b.set(self.died, b.ld(Type.I64, self.env, EXEC_ENV.offset("regions_died")))
        b.load_parts()
        pc = b.ld(Type.I64, self.rec, TB.offset("pc"))
        targets = [b.new_block("arrive") for _ in self.entries]
        if len(targets) == 1:
            b.br(targets[0])
        else:
            which = b.ld(Type.I16, self.rec, TB.offset("entry"))
            b.switch(which, list(enumerate(targets))[1:], targets[0])
        for block, arrive in zip(self.entries, targets, strict=True):
            b.place(arrive)
            b.set(self.base, pc - block.pc)
            self._arrive(block)

    def _arrive(self, block: GuestBlock) -> None:
        """Go to an entry's block if the x87 stack's top is what it was made for."""
        b, top = self.b, self.tops.get(block.number)
        head = self.heads[block.number]
        if top is None:
            b.br(head)
        else:
            b.brif(b.stored_top().eq(top), head, self.wrong_top[block.number], likely=True)

    def _check_pages(self, quiet: Value, slow: Block) -> None:
        """A region on several pages: they must be mapped as they were."""
        b = self.b
        checked, changed, same = (b.new_block(n) for n in ("checked", "changed", "same"))
        b.brif(quiet, checked, slow, likely=True)
        b.place(checked)
        stamp = b.ld(Type.I64, self.rec, TB.offset("stamp"))
        b.brif(stamp.eq(b.ld(Type.I64, self.env, EXEC_ENV.offset("map_stamp"))), same, changed,
               likely=True)  # fmt: skip
        b.place(changed)
        fits = b.emit("call", self.env, self.rec, callee="region_maps", type=Type.I32, cold=True)
        b.brif(fits.ne(0), same, slow, likely=True)
        b.place(same)

    # Blocks ------------------------------------------------------------------------------------

    def _block(self, block: GuestBlock) -> None:
        b = self.b
        joined = block.number in self.joins
        if not joined and block.number not in self.flags_in:
            return  # the block that leads here ended early
        b.place(self.heads[block.number])
        b.flags = FlagState(merged=True) if joined else self.flags_in[block.number]
        b.top = self.tops.setdefault(block.number, None)
        if b.top is not None and block in self.entries:
            self.wrong_top[block.number] = self.exit_to(block, block.pc, refund=0,
                                                        why=Leave.INSTRUCTION)  # fmt: skip
            b.used.add(TOP.number)
        if block.number in self.loops:
            self._poll(block)
        b.set(self.budget, b.get(self.budget) - len(block.insns))
        for position, insn in enumerate(block.insns):
            function, here = self.function, b.block
            mark = len(function.blocks), here, len(here.ops)
            saved = dict(b.known), b.flags.copy(), len(self.exits), b.top
            calls, faults = self.helpers.mark(), len(self.faults)
            b.line = self.lines[block.number] + position
            try:
                self._insn(block, position)
            except NotInRegion:
                truncate(function, *mark)
                b.block = here
                b.known, b.flags, b.top = saved[0], saved[1], saved[3]
                del self.exits[saved[2] :]
                self.helpers.cut(calls)
                del self.faults[faults:]
                self._edges = []
                rest = len(block.insns) - position
                if position == 0 and block is self.blocks[0]:
                    raise
                b.br(self.exit_to(block, insn.fields["pc"], refund=rest, why=Leave.INSTRUCTION))
                break
        if not b.block.closed:
            b.br(self.edge_to(block, self.at[block.fall]) if block.fall in self.at
                 else self.exit_to(block, block.fall, refund=0))  # fmt: skip
            self.finish_edges()
        b.line = 0

    def _insn(self, block: GuestBlock, position: int) -> None:
        """Emit an instruction; leave behind it if a helper may have ended the region's life."""
        t = RegionTranslator(self, block, position)
        Instruction(t, row_of(t.insn.key)).build()
        b = self.b
        if not t.changed or b.block.closed:
            return
        alive, leave = b.new_block("alive"), self.exit_to(
            block, t.insn.fields["pc"] + t.insn.fields["length"],
            refund=len(block.insns) - position - 1, why=Leave.CHANGED)  # fmt: skip
        now = b.ld(Type.I64, self.env, EXEC_ENV.offset("regions_died"))
        as_before = now.eq(b.get(self.died))
        if b.top is not None:
            as_before = as_before & b.stored_top().eq(b.top)
        b.brif(as_before, alive, leave, likely=True)
        b.place(alive, keep=True)

    def _poll(self, block: GuestBlock) -> None:
        """At a loop's head: leave if somebody wants the loop, or the budget may end within."""
        b = self.b
        request = b.state_place(EXEC_ENV.offset("exit_request"))
        wanted = b.emit("ldg", request, type=Type.I32).ne(0)  # others set it
        wanted = wanted | b.op("slt", b.get(self.budget), b.const(self.insns, Type.I64))
        go_on = b.new_block("poll")
        leave = self.exit_to(block, block.pc, refund=0, why=Leave.WANTED)
        b.brif(wanted, leave, go_on, likely=False)
        b.place(go_on)

    # Edges and exits ---------------------------------------------------------------------------

    def edge(self, t: RegionTranslator, name: str) -> Block:
        """Where a direct transfer of the current block goes: a block of the region or an exit."""
        block = t.source
        distance = block.taken if name == "taken" else block.fall
        target = self.at.get(distance)
        if target is None:
            return self.exit_to(block, distance, refund=0)
        return self.edge_to(block, target)

    def edge_to(self, source: GuestBlock, target: GuestBlock) -> Block:
        """A block that leads to ``target``."""
        top = self.tops.setdefault(target.number, self.b.top)
        if top is not None and top != self.b.top:
            return self.exit_to(source, target.pc, refund=0)
        if target.number not in self.joins:
            self.flags_in[target.number] = self.b.flags.copy()
            return self.heads[target.number]
        edge = self.b.new_block("edge")
        self._edges.append((edge, target, self.b.flags.copy()))
        return edge

    def dispatch(self, source: GuestBlock, pc: Value) -> None:
        """Go on at a computed address: at one of the entries, or leave."""
        b = self.b
        if self.dispatcher is None:
            self.dispatcher = b.new_block("dispatch"), b.local(Type.I64, "target")
        block, target = self.dispatcher
        b.set(target, pc)
        b.merge_flags()
        b.br(block)

    def _dispatcher(self) -> None:
        """The block behind all computed branches: a probe of the jump cache."""
        if self.dispatcher is None:
            return
        b = self.b
        block, target = self.dispatcher
        b.place(block)
        pc = b.get(target)
        slot = self._inline(jump_slot, self.env, pc)
        salt = b.ld(Type.I64, self.env, EXEC_ENV.offset("jump_salt"))
        hit = b.ld(Type.I64, slot, JUMP.offset("tag")).eq(pc ^ salt)
        found, lost, inside = (b.new_block(n) for n in ("found", "lost", "inside"))
        b.brif(hit, found, lost, likely=True)
        b.place(found)
        tb = b.ld(Type.PTR, slot, JUMP.offset("tb"))
        own = b.ld(Type.PTR, tb).eq(b.symbol(self.function.name))
        base = b.ld(Type.I64, self.env, EXEC_ENV.offset("code_base"))
        own = own & b.ld(Type.I64, tb, TB.offset("cs_base")).eq(base)
        b.brif(own, inside, lost)
        b.place(inside)
        heads = [b.new_block("chosen") for _ in self.entries]
        if len(heads) == 1:
            b.br(heads[0])
        else:
            which = b.ld(Type.I16, tb, TB.offset("entry"))
            b.switch(which, list(enumerate(heads))[1:], heads[0])
        for entry, chosen in zip(self.entries, heads, strict=True):
            b.place(chosen)
            self._arrive(entry)
        b.place(lost)
        b.flags = FlagState(merged=True)
        self.exits.append(Exit(lost, b.flags, pc, 0, Leave.COMPUTED, b.line))
        self.lost = lost

    def _inline(self, callee: NativeFunction[Any, Any], *args: Value) -> Value:
        self.program.add([callee])
        value = self.b.inline(self.inlined(callee), list(args), None)
        assert value is not None
        return value

    def finish_edges(self) -> None:
        """Fill the edges asked for since the last time: flags go to their locals."""
        b = self.b
        known, flags, block = b.known, b.flags, b.block
        for edge, target, state in self._edges:
            b.place(edge)
            b.flags, b.known = state, {}
            b.merge_flags()
            b.br(self.heads[target.number])
        self._edges = []
        b.known, b.flags, b.block = known, flags, block

    def exit_to(self, source: GuestBlock, target: Value | int, *, refund: int,
                why: Leave = Leave.BRANCH) -> Block:  # fmt: skip
        """An exit with the present state."""
        block = self.b.new_block("exit")
        self.exits.append(Exit(block, self.b.flags.copy(), target, refund, why, self.b.line))
        return block

    def fault_exit(self, t: RegionTranslator) -> Block:
        """Where a helper's fault goes: out of threaded code, with everything in env."""
        block = self.b.new_block("fault")
        self.faults.append((block, t))
        return block

    def _faults(self) -> None:
        b = self.b
        for block, t in self.faults:
            b.line = self.lines[t.source.number] + t.position
            b.place(block)
            b.st(self.wrapped(t.pc()), self.env, EXEC_ENV.offset("pc"))
            left = b.get(self.budget) + (len(t.source.insns) - t.position)
            b.st(left, self.env, EXEC_ENV.offset("budget"))
            self._count(left)
            b.emit_effect("ret")

    def _count(self, left: Value) -> Value:
        """Account for the instructions run since the entry; returns how often it was used."""
        b = self.b
        done = b.ld(Type.I32, self.rec, TB.offset("done"))
        b.st(done + (b.get(self.begun) - left).trunc(Type.I32), self.rec, TB.offset("done"))
        entered = b.ld(Type.I32, self.rec, TB.offset("entered")) + 1
        b.st(entered, self.rec, TB.offset("entered"))
        return entered

    def _judge(self, entered: Value) -> None:
        """Now and then look whether the entry is worth it."""
        b = self.b
        judge, judged = b.new_block("judge"), b.new_block("judged")
        b.brif((entered & (JUDGED - 1)).eq(0), judge, judged, likely=False)
        b.place(judge)
        b.emit_effect("call", self.env, self.rec, callee="region_judge", type=Type.VOID, cold=True)
        b.br(judged)
        b.place(judged)

    def _exits(self) -> None:
        """Fill the exits: what differs between them goes into locals, the rest is done once."""
        b = self.b
        b.top = None
        self._dispatcher()
        address, refund = b.local(Type.I64, "exit_pc"), b.local(Type.I64, "refund")
        why = b.local(Type.I64, "why")
        leaves = {bails: b.new_block("leave") for bails in {leave.bails for leave in self.exits}}
        for leave in self.exits:
            b.line = leave.line
            if leave.block is not self.lost:
                b.place(leave.block)
            else:
                b.block, b.known = leave.block, {}
            b.flags = leave.flags.copy()
            b.merge_flags()
            target = leave.target
            b.set(address, self.pc_at(target) if isinstance(target, int) else target)
            b.set(refund, b.const(leave.refund, Type.I64))
            b.set(why, b.const(8 * leave.why, Type.I64))
            b.br(leaves[leave.bails])
        b.line = 0
        for bails, block in leaves.items():
            b.place(block)
            self._count_exit(b.get(why))
            self._leave(b.get(address), b.get(refund), bails=bails)

    def _count_exit(self, place: Value) -> None:
        b = self.b
        count = b.ptradd(self.env, place + EXEC_ENV.offset("region_exits"))
        b.st(b.ld(Type.I64, count) + 1, count)

    def _leave(self, pc: Value, refund: Value, *, bails: bool) -> None:
        """Store what the region changes, and go on at ``pc``: see `Exit`."""
        b = self.b
        b.store_parts(settled=bails)
        b.st(self.wrapped(pc), self.env, EXEC_ENV.offset("pc"))
        left = b.get(self.budget) + refund
        b.st(left, self.env, EXEC_ENV.offset("budget"))
        self._judge(self._count(left))
        code = b.symbol("tb_resume" if bails else "region_leave")
        b.emit_effect("tail", code, self.env, self.rec, self.ram)

    def wrapped(self, pc: Value) -> Value:
        code_size = context_of(self.blocks[0].insns[0].key).code_size
        return pc if code_size == 64 else pc & ((1 << code_size) - 1)

    # Memory and calls --------------------------------------------------------------------------

    def probe(self, t: RegionTranslator, linear: Value, bits: int, *, write: bool) -> Value:
        """Offset from the RAM window of an access; leaves where it is no plain one."""
        if t.place is None:
            return self._tlb_probe(t, linear, bits, write=write)
        return self._remembered(t, self._page(t.place, write=write), linear, bits // 8, write=write)

    def _tlb_probe(self, t: RegionTranslator, linear: Value, bits: int, *, write: bool) -> Value:
        b, size = self.b, bits // 8
        tlb = b.ld(Type.PTR, self.env, EXEC_ENV.offset("tlb"))
        entry = b.ptradd(tlb, (linear >> PAGE_BITS - 5) & access._TLB_MASK)
        tag = b.ld(Type.I64, entry, TLB_ENTRY.offset("write" if write else "read"))
        hit = tag.eq((linear + size - 1) & PAGE_MASK)
        guess = linear + b.ld(Type.I64, entry, TLB_ENTRY.offset("addend"))
        kind = access.Access.WRITE if write else access.Access.READ
        return self._guessed(t, guess, hit, "region_probe", linear, b.const(kind, Type.I32),
                             b.const(size, Type.I32))  # fmt: skip

    def _guessed(self, t: RegionTranslator, guess: Value, right: Value, native: str,
                 *args: Value) -> Value:  # fmt: skip
        """Where an access is: ``guess`` if that is ``right``, else what ``native`` finds."""
        b = self.b
        where = b.local(Type.I64, "where")
        b.set(where, guess)
        same, other = b.new_block("same"), b.new_block("other")
        b.brif(right, same, other, likely=True)
        known = b.known
        b.place(other)
        found = b.emit("call", self.env, *args, callee=native, type=Type.I64, cold=True)
        b.set(where, found)
        b.brif(found.eq(access.NOT_RAM), t.unwind, same, likely=False)
        b.place(same)
        b.known = known
        return b.get(where)

    def _remembered(self, t: RegionTranslator, page: Page, linear: Value, size: int, *,
                    write: bool) -> Value:  # fmt: skip
        """The same from an access near by of the same base, or through a page that is kept."""
        b = self.b
        root, distance = b.parts_of_sum(linear)
        near = b.known.get(("anchor", root))
        if near is not None:
            anchor = self.anchors[near.id]
            step = distance - anchor.distance
            if abs(step) < REACH and anchor.writable >= write:
                if step >= 0 and step + size <= anchor.size:
                    return near + step
                right = self._same_page(near, anchor, step, size)
                return self._page_access(t, page, linear, size, near + step, right, write=write)
        within = linear - b.ld(Type.I64, self.env, _kept(page, "address"))
        limit = b.ld(Type.I64, self.env, _kept(page, "limit"))
        guess = within + b.ld(Type.I64, self.env, _kept(page, "offset"))
        inside = within.ult(limit)
        if size > access.KEPT_BYTES:
            inside = inside & (within + (size - access.KEPT_BYTES)).ult(limit)
        where = self._page_access(t, page, linear, size, guess, inside, write=write)
        self.anchors[where.id] = Anchor(linear, distance, size, write)
        b.known["anchor", root] = where
        return where

    def _same_page(self, near: Value, anchor: Anchor, step: int, size: int) -> Value:
        """Whether what lies ``step`` bytes from an anchor is on its page."""
        key = "place in page", near.id
        low = self.b.known.get(key)
        if low is None:
            low = self.b.known[key] = anchor.linear & (PAGE_SIZE - 1)
        if step >= 0:
            return low.ule(PAGE_SIZE - size - step)
        return (low + step).ule(PAGE_SIZE - size)

    def _page_access(self, t: RegionTranslator, page: Page, linear: Value, size: int,
                     guess: Value, right: Value, *, write: bool) -> Value:  # fmt: skip
        """Where an access is: ``guess`` if that is ``right``, else on a page that is then kept."""
        kind = access.Access.WRITE if write else access.Access.READ
        what = KEPT_PAGE.size * page.number | size << 16 | kind << 24
        what |= access.KEEP_WRITABLE * page.writable
        native = "region_write" if page.writable else "region_read"
        if size > access.KEPT_BYTES:
            native = "region_page"
        return self._guessed(t, guess, right, native, linear, self.b.const(what, Type.I32))

    def _page(self, place: int, *, write: bool) -> Page:
        """What keeps the page of accesses by ``place``; code of other regions shares it."""
        writable = write or place == _RSP
        row = 2 * _PLACES.index(place) + writable
        return Page(row + 2 * len(_PLACES) * self.user, writable)

    def inlined(self, callee: NativeFunction[Any, Any]) -> Function:
        """The body of an inline native, with its parameters where they are used."""
        if callee.name not in _INLINED:
            body = self.program.compile(callee)
            optimise(body)
            _INLINED.add(callee.name)
        return self.program.compile(callee)

    def call(self, t: RegionTranslator, callee: NativeFunction[Any, Any],
             args: list[Value]) -> Value | None:  # fmt: skip
        """Call a native: as it is if it looks at its arguments only."""
        self.program.add([callee])
        if any(arg.type is Type.PTR for arg in args) or callee.name in self.program.raising:
            return t.helper(callee, args)
        signature = self.program.signatures[callee.name]
        from pytcg_native.expressions import ir_type

        return self.b.emit("call", *args, callee=callee.name, type=ir_type(signature.result))


_INLINED: set[str] = set()


def _kept(page: Page, name: str) -> int:
    """Offset in env of a field of a kept page."""
    return EXEC_ENV.offset("kept_pages", 3 * page.number) + KEPT_PAGE.offset(name)
