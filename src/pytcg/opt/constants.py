"""Constant folding and propagation, identities, and branches whose way is known."""

from __future__ import annotations

from pytcg.ir.blocks import Block, Function, Op, Value
from pytcg.ir.flow import reachable
from pytcg.ir.meaning import PURE, evaluate
from pytcg.ir.ops import BITS, COMMUTATIVE, FLOATS, Type
from pytcg.opt.rewrite import replace_operands, replace_values

_DIVISIONS = {"udiv", "urem", "sdiv", "srem", "udivw"}
_RIGHT_ZERO_KEEPS = {"add", "sub", "or", "xor", "shl", "lshr", "ashr", "rotl", "rotr", "ptradd"}
_SAME_IS_ZERO = {"sub", "xor", "ne", "ult", "ugt", "slt", "sgt", "subb", "subo"}
_SAME_IS_ONE = {"eq", "ule", "uge", "sle", "sge"}
_SAME_KEEPS = {"and", "or", "vminu", "vmaxu", "vmins", "vmaxs"}


def fold_constants(function: Function) -> None:
    """Fold what is constant, forward, in an order that meets definitions before uses."""
    known: dict[int, Value] = {}
    for block in reachable(function):
        kept = []
        for op in block.ops:
            replace_operands(op, known)
            value = fold(op)
            if value is not None and op.out is not None:
                known[op.out.id] = value
            else:
                kept.append(op)
        block.ops = kept
        _fold_branch(block)
    replace_values(function, known)


def fold(op: Op) -> Value | None:
    """The value that an op's result always has, if it is a constant or an operand."""
    if op.out is None or op.name not in PURE or op.args[0].type in FLOATS:
        return None
    if op.name in COMMUTATIVE and op.args[0].const is not None and op.args[1].const is None:
        op.args = (op.args[1], op.args[0])
    constants = [a.const for a in op.args if a.const is not None]
    if len(constants) == len(op.args):
        return _evaluated(op, constants)
    return _identity(op)


def _evaluated(op: Op, constants: list[int]) -> Value | None:
    assert op.out is not None
    if op.name in _DIVISIONS and (constants[-1] == 0 or _overflows(op, constants)):
        return None
    if op.out.type in FLOATS:
        return None
    number = evaluate(op.name, constants, op.args[0].type, op.out.type, op.attrs,
                      op.args[1].bits if len(op.args) > 1 else 0)  # fmt: skip
    return Value(op.out.builder, op.out.type, -1, number)


def _overflows(op: Op, constants: list[int]) -> bool:
    bits = op.args[0].bits
    if op.name == "udivw":
        return constants[0] >= constants[2]
    return op.name[0] == "s" and constants == [1 << (bits - 1), (1 << bits) - 1]


def _identity(op: Op) -> Value | None:
    assert op.out is not None
    name, args = op.name, op.args
    if name == "select":
        if args[0].const is not None:
            return args[1] if args[0].const else args[2]
        return args[1] if args[1] is args[2] else None
    if name == "bitcast" and op.out.type is args[0].type:
        return args[0]
    if len(args) != 2:
        return None
    if args[0] is args[1]:
        return _same(op)
    return None if args[1].const is None else _right_constant(op, args[1].const)


def _same(op: Op) -> Value | None:
    """x op x."""
    assert op.out is not None
    if op.name in _SAME_KEEPS:
        return op.args[0]
    if op.name in _SAME_IS_ZERO or op.name in _SAME_IS_ONE:
        return Value(op.out.builder, op.out.type, -1, int(op.name in _SAME_IS_ONE))
    return None


def _right_constant(op: Op, right: int) -> Value | None:
    """x op constant."""
    left, out = op.args[0], op.out
    assert out is not None
    ones = (1 << left.bits) - 1
    if right == 0 and op.name in _RIGHT_ZERO_KEEPS:
        return left
    if right == 0 and op.name in ("mul", "and", "mulhu", "mulhs", "ult", "addc", "subb", "addo",
                                  "subo"):  # fmt: skip
        return Value(out.builder, out.type, -1, 0)
    if right == 0 and op.name == "uge":
        return Value(out.builder, out.type, -1, 1)
    if right == ones and op.name == "and":
        return left
    if right == ones and op.name == "or":
        return op.args[1]
    if right == 1 and op.name in ("mul", "udiv") and left.bits > 1:
        return left
    # A flag tested against zero, as the front-end writes conditions: i1 != 0 is the i1 itself.
    return left if left.type is Type.I1 and (op.name, right) in (("ne", 0), ("eq", 1)) else None


def _fold_branch(block: Block) -> None:
    """A branch on a constant, or with one way only, becomes a jump."""
    op = block.ops[-1]
    if op.name == "brif":
        then, otherwise = op.attrs["then"], op.attrs["otherwise"]
        if op.args[0].const is not None or then is otherwise:
            block.ops[-1] = _jump(then if op.args[0].const != 0 else otherwise)
    elif op.name == "switch" and op.args[0].const is not None:
        cases = op.attrs["cases"]
        assert isinstance(cases, tuple)
        mask = (1 << BITS[op.args[0].type]) - 1
        taken = {case & mask: target for case, target in cases}
        block.ops[-1] = _jump(taken.get(op.args[0].const, op.attrs["default"]))


def _jump(target: object) -> Op:
    return Op("br", (), {"target": target}, None)
