"""Compiles expressions of restricted Python: typed values, constants, places, intrinsics.

Types: operands of different widths meet at the wider; of one width, signed and unsigned don't mix.
A Python constant takes the type of what it meets.
"""

from __future__ import annotations

import ast
import enum
import types
from typing import TYPE_CHECKING, Any

from pytcg.ir.blocks import Block, Local, Value
from pytcg.ir.builder import Builder
from pytcg.ir.layout import BOOL, F32, PTR, SCALARS, VOID, Scalar, Struct
from pytcg.ir.ops import Type
from pytcg_native.types import NativeFunction, Pointer, Table

if TYPE_CHECKING:
    from pytcg_native.compiler import Program

_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or",
    ast.BitXor: "xor", ast.LShift: "shl", ast.FloorDiv: "udiv", ast.Mod: "urem",
}  # fmt: skip
_COMPARE = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt",
            ast.GtE: "ge"}  # fmt: skip
_UNARY_INTRINSICS = {"clz", "ctz", "popcnt", "bswap"}
DEFAULT_MXCSR = 0x1F80
_BINARY_INTRINSICS = {"rotl", "rotr", "mulhu", "mulhs", "sdiv", "srem"}


def ir_type(scalar: Scalar) -> Type:
    """The IR type that carries a native scalar."""
    if scalar is VOID:
        return Type.VOID
    if scalar is BOOL:
        return Type.I1
    if scalar is PTR:
        return Type.PTR
    if scalar.floating:
        return Type.F32 if scalar is F32 else Type.F64
    return Type(f"i{scalar.size * 8}")


class Typed:
    """A value with its native type."""

    __slots__ = ("scalar", "struct", "value")

    def __init__(self, value: Value, scalar: Scalar, struct: Struct | None = None):
        self.value = value
        self.scalar = scalar
        self.struct = struct


class Expressions:
    """The expression half of the function compiler."""

    program: Program
    fn: NativeFunction[Any, Any]
    b: Builder
    variables: dict[str, tuple[Local, Scalar, Struct | None]]

    def call_native(self, node: ast.Call, callee: NativeFunction[Any, Any], *,
                    catch: bool = False) -> Typed | None:  # fmt: skip
        raise NotImplementedError

    # Constants ---------------------------------------------------------------------------------

    def constant(self, node: ast.expr) -> int | None:
        """The value of an expression known while compiling, or None."""
        if isinstance(node, ast.Constant):
            return int(node.value) if isinstance(node.value, int) else None
        if isinstance(node, ast.Name):
            if node.id in self.variables:
                return None
            return _as_int(self.fn.scope.get(node.id))
        if isinstance(node, ast.Attribute):
            return _as_int(self._python_object(node))
        if isinstance(node, ast.BinOp):
            left, right = self.constant(node.left), self.constant(node.right)
            if left is None or right is None:
                return None
            folded = eval(  # the operands are ints, the operator Python's own
                compile(ast.Expression(ast.fix_missing_locations(ast.BinOp(
                    ast.Constant(left), node.op, ast.Constant(right)))), "", "eval"))  # fmt: skip
            return int(folded)
        if isinstance(node, ast.UnaryOp):
            inner = self.constant(node.operand)
            if inner is None:
                return None
            if isinstance(node.op, ast.USub):
                return -inner
            if isinstance(node.op, ast.Invert):
                return ~inner
            return int(not inner) if isinstance(node.op, ast.Not) else inner
        return None

    def _python_object(self, node: ast.expr) -> object:
        if isinstance(node, ast.Name):
            return None if node.id in self.variables else self.fn.scope.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._python_object(node.value)
            if isinstance(owner, (types.ModuleType, enum.EnumType)):
                return getattr(owner, node.attr, None)
        return None

    # Conversions -------------------------------------------------------------------------------

    def coerce(self, node: ast.AST, value: Typed | int | None, scalar: Scalar) -> Value:
        """``value`` as ``scalar`` where nothing is lost; otherwise an error."""
        if value is None:
            raise self.fn.error(node, "that call has no value")
        if isinstance(value, int):
            if scalar is PTR:
                return self.b.const(value, Type.PTR)
            low = -(1 << (scalar.bits - 1)) if scalar.bits > 1 else 0
            if not low <= value < (1 << scalar.bits):
                raise self.fn.error(node, f"{value:#x} does not fit {scalar}")
            return self.b.const(value, ir_type(scalar))
        have = value.scalar
        if have is scalar:
            return value.value
        if have is BOOL and not scalar.is_pointer and not scalar.floating:
            return value.value.zext(ir_type(scalar))
        widens = have.size < scalar.size and (scalar.signed or not have.signed)
        if scalar.is_pointer or have.is_pointer or have.floating or scalar.floating or not widens:
            raise self.fn.error(node, f"a {have} is no {scalar}: convert it explicitly")
        return self._extend(value, scalar)

    def _extend(self, value: Typed, scalar: Scalar) -> Value:
        type_ = ir_type(scalar)
        return value.value.sext(type_) if value.scalar.signed else value.value.zext(type_)

    def convert(self, node: ast.AST, value: Typed | int, scalar: Scalar) -> Typed:
        """An explicit conversion, C's rules."""
        if isinstance(value, int):
            return Typed(self.b.const(value, ir_type(scalar)), scalar)
        have = value.scalar
        if have.is_pointer or have.floating or scalar.floating:
            raise self.fn.error(node, f"a {have} can't become a {scalar}")
        if scalar is BOOL:
            return Typed(self.truth(node, value), BOOL)
        if have is BOOL or have.size < scalar.size:
            return Typed(self._extend(value, scalar), scalar)
        return Typed(value.value.trunc(ir_type(scalar)), scalar)

    def truth(self, node: ast.AST, value: Typed | int) -> Value:
        if isinstance(value, int):
            return self.b.const(int(bool(value)), Type.I1)
        if value.scalar is BOOL:
            return value.value
        return value.value.ne(0)

    def _meet(self, node: ast.AST, a: Typed | int, b: Typed | int) -> tuple[Value, Value, Scalar]:
        if isinstance(a, int) and isinstance(b, int):
            raise self.fn.error(node, "constants that could not be folded")
        if isinstance(a, int):
            assert isinstance(b, Typed)
            return self.coerce(node, a, b.scalar), b.value, b.scalar
        if isinstance(b, int):
            return a.value, self.coerce(node, b, a.scalar), a.scalar
        scalar = a.scalar if a.scalar.size >= b.scalar.size else b.scalar
        if a.scalar.size == b.scalar.size and a.scalar is not b.scalar:
            raise self.fn.error(node, f"{a.scalar} meets {b.scalar}: convert one")
        return self.coerce(node, a, scalar), self.coerce(node, b, scalar), scalar

    # Places and memory -------------------------------------------------------------------------

    def loaded(self, pointer: Value, scalar: Scalar) -> Typed:
        if scalar is BOOL:
            return Typed(self.b.ld(Type.I8, pointer).ne(0), BOOL)
        return Typed(self.b.ld(ir_type(scalar), pointer), scalar)

    def stored(self, value: Value, scalar: Scalar) -> Value:
        return value.zext(Type.I8) if scalar is BOOL else value

    def place(self, node: ast.expr) -> tuple[Value, Scalar]:
        """Address and type of a field, array element or table element."""
        if isinstance(node, ast.Attribute):
            base, field = self._field(node)
            return self.b.ptradd(base, field.offset), field.type
        if isinstance(node, ast.Subscript):
            if isinstance(node.value, ast.Attribute):
                base, field = self._field(node.value)
                origin, scalar = self.b.ptradd(base, field.offset), field.type
            elif isinstance(node.value, ast.Name) and isinstance(
                table := self.fn.scope.get(node.value.id), Table
            ):
                origin, scalar = self.b.symbol(table.name), table.element
            else:
                raise self.fn.error(node, "only fields and tables have elements")
            return self._element(node, origin, scalar), scalar
        raise self.fn.error(node, f"can't store to {ast.unparse(node)}")

    def _element(self, node: ast.Subscript, origin: Value, scalar: Scalar) -> Value:
        index = self.expr(node.slice)
        if isinstance(index, int):
            return self.b.ptradd(origin, index * scalar.size)
        wide = self._extend(index, SCALARS["u64"]) if index.scalar.size < 8 else index.value
        return self.b.ptradd(origin, wide * scalar.size)

    def _field(self, node: ast.Attribute) -> tuple[Value, Any]:
        owner = self.expr(node.value)
        if isinstance(owner, int) or owner.struct is None:
            raise self.fn.error(node, f"{ast.unparse(node.value)} has no fields")
        field = owner.struct.fields.get(node.attr)
        if field is None:
            raise self.fn.error(node, f"{owner.struct.name} has no field {node.attr}")
        return owner.value, field

    # Expressions -------------------------------------------------------------------------------

    def expr(self, node: ast.expr) -> Typed | int:
        known = self.constant(node)
        if known is not None:
            return known
        method = getattr(self, "_expr_" + type(node).__name__, None)
        if method is None:
            raise self.fn.error(node, f"no {type(node).__name__} in native code")
        value: Typed | int = method(node)
        return value

    def _expr_Name(self, node: ast.Name) -> Typed:
        if node.id not in self.variables:
            raise self.fn.error(node, f"no variable or constant {node.id}")
        local, scalar, struct = self.variables[node.id]
        return Typed(self.b.get(local), scalar, struct)

    def _expr_Attribute(self, node: ast.Attribute) -> Typed:
        pointer, scalar = self.place(node)
        return self.loaded(pointer, scalar)

    def _expr_Subscript(self, node: ast.Subscript) -> Typed:
        pointer, scalar = self.place(node)
        return self.loaded(pointer, scalar)

    def _expr_BinOp(self, node: ast.BinOp) -> Typed | int:
        return self.binary(node, node.op, self.expr(node.left), self.expr(node.right))

    def binary(self, node: ast.AST, op: ast.operator, a: Typed | int, b: Typed | int) -> Typed:
        if isinstance(a, Typed) and a.scalar is PTR:
            if not isinstance(op, ast.Add):
                raise self.fn.error(node, "pointers only add")
            if not isinstance(b, int) and b.scalar.size < 8:
                b = self.convert(node, b, SCALARS["u64"])
            offset = self.b.const(b, Type.I64) if isinstance(b, int) else b.value
            return Typed(self.b.ptradd(a.value, offset), PTR)
        if isinstance(op, (ast.LShift, ast.RShift)):
            return self._shift(node, op, a, b)
        left, right, scalar = self._meet(node, a, b)
        name = _BINARY.get(type(op))
        if name is None:
            raise self.fn.error(node, f"no operator {type(op).__name__}")
        if scalar.signed and name in ("udiv", "urem"):
            raise self.fn.error(node, "signed division: use sdiv and srem")
        if scalar is BOOL and name not in ("and", "or", "xor"):
            raise self.fn.error(node, "convert a bool to reckon with it")
        return Typed(self.b.op(name, left, right), scalar)

    def _shift(self, node: ast.AST, op: ast.operator, a: Typed | int, b: Typed | int) -> Typed:
        if isinstance(a, int):
            a = self.convert(node, a, SCALARS["u64"])
        scalar = a.scalar
        if isinstance(b, int):
            if not 0 <= b < scalar.bits:
                raise self.fn.error(node, f"shift of a {scalar} by {b}")
            count = self.b.const(b, a.value.type)
        else:
            count = b.value.resize(a.value.type)
        right = "ashr" if scalar.signed else "lshr"
        name = "shl" if isinstance(op, ast.LShift) else right
        return Typed(self.b.op(name, a.value, count), scalar)

    def _expr_UnaryOp(self, node: ast.UnaryOp) -> Typed:
        value = self.expr(node.operand)
        if isinstance(node.op, ast.Not):
            return Typed(self.truth(node, value).eq(0), BOOL)
        assert isinstance(value, Typed)
        if isinstance(node.op, ast.Invert):
            return Typed(~value.value, value.scalar)
        if isinstance(node.op, ast.USub):
            return Typed(-value.value, value.scalar)
        return value

    def _expr_Compare(self, node: ast.Compare) -> Typed:
        left, result = self.expr(node.left), None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.expr(comparator)
            one = self._compare(node, op, left, right)
            result = one if result is None else self.b.op("and", result, one)
            left = right
        assert result is not None
        return Typed(result, BOOL)

    def _compare(self, node: ast.AST, op: ast.cmpop, a: Typed | int, b: Typed | int) -> Value:
        left, right, scalar = self._meet(node, a, b)
        name = _COMPARE.get(type(op))
        if name is None:
            raise self.fn.error(node, f"no comparison {type(op).__name__}")
        if name not in ("eq", "ne"):
            if scalar is PTR:
                raise self.fn.error(node, "pointers have no order")
            name = ("s" if scalar.signed else "u") + name
        return self.b.op(name, left, right)

    def _expr_BoolOp(self, node: ast.BoolOp) -> Typed:
        result = self.b.local(Type.I1, "bool")
        yes, no, after = (self.b.new_block(n) for n in ("true", "false", "bool"))
        self.branch(node, yes, no)
        for block, value in ((yes, 1), (no, 0)):
            self.b.place(block)
            self.b.set(result, self.b.const(value, Type.I1))
            self.b.br(after)
        self.b.place(after)
        return Typed(self.b.get(result), BOOL)

    def _expr_IfExp(self, node: ast.IfExp) -> Typed:
        then, otherwise, after = (self.b.new_block(n) for n in ("then", "else", "value"))
        self.branch(node.test, then, otherwise)
        self.b.place(then)
        first = self.expr(node.body)
        then_end = self.b.block
        self.b.place(otherwise)
        second = self.expr(node.orelse)
        otherwise_end = self.b.block
        typed = first if isinstance(first, Typed) else second
        if not isinstance(typed, Typed):
            assert isinstance(first, int) and isinstance(second, int)
            typed = self.convert(node, 0, _narrowest(first, second))
        if isinstance(first, Typed) and isinstance(second, Typed):
            typed = first if first.scalar.size >= second.scalar.size else second
        result = self.b.local(ir_type(typed.scalar), "either")
        for block, value in ((then_end, first), (otherwise_end, second)):
            self.b.block = block
            self.b.set(result, self.coerce(node, value, typed.scalar))
            self.b.br(after)
        self.b.place(after)
        return Typed(self.b.get(result), typed.scalar, typed.struct)

    def branch(self, node: ast.expr, then: Block, otherwise: Block,
               likely: bool | None = None) -> None:  # fmt: skip
        """Branch on a condition, short-circuiting and/or/not."""
        if isinstance(node, ast.BoolOp):
            for index, part in enumerate(node.values):
                if index == len(node.values) - 1:
                    self.branch(part, then, otherwise, likely)
                    return
                more = self.b.new_block("and")
                if isinstance(node.op, ast.And):
                    self.branch(part, more, otherwise, likely)
                else:
                    self.branch(part, then, more, likely)
                self.b.place(more)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.branch(node.operand, otherwise, then, None if likely is None else not likely)
        elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
              and node.func.id in ("likely", "unlikely")):  # fmt: skip
            self.branch(node.args[0], then, otherwise, node.func.id == "likely")
        else:
            self.b.brif(self.truth(node, self.expr(node)), then, otherwise, likely=likely)

    # Calls -------------------------------------------------------------------------------------

    def _expr_Call(self, node: ast.Call) -> Typed:
        value = self.call(node, want_value=True)
        if value is None:
            raise self.fn.error(node, "that call has no value")
        return value

    def call(self, node: ast.Call, *, want_value: bool) -> Typed | None:
        if not isinstance(node.func, ast.Name):
            raise self.fn.error(node, "only plain functions are called")
        name = node.func.id
        if name in SCALARS and name != "ptr":
            return self.convert(node, self.expr(node.args[0]), SCALARS[name])
        if name == "bool":
            return Typed(self.truth(node, self.expr(node.args[0])), BOOL)
        found = self.fn.scope.get(name)
        if isinstance(found, NativeFunction):
            return self.call_native(node, found)
        if isinstance(found, type) and issubclass(found, Pointer):
            value = self.coerce(node, self.expr(node.args[0]), PTR)
            return Typed(value, PTR, getattr(found, "layout", None))
        return self._intrinsic(node, name)

    def _intrinsic(self, node: ast.Call, name: str) -> Typed | None:
        if name in ("likely", "unlikely"):
            return Typed(self.truth(node, self.expr(node.args[0])), BOOL)
        if name in _UNARY_INTRINSICS:
            value = self._typed(node.args[0])
            return Typed(self.b.op(name, value.value), value.scalar)
        if name in _BINARY_INTRINSICS:
            left, right, scalar = self._meet(node, *(self.expr(a) for a in node.args))
            return Typed(self.b.op(name, left, right), scalar)
        if name.startswith(("load", "store")):
            return self._host_access(node, name)
        method = getattr(self, "_intrinsic_" + name, None)
        if method is None:
            raise self.fn.error(node, f"no native function {name}")
        result: Typed | None = method(node)
        return result

    def _typed(self, node: ast.expr) -> Typed:
        value = self.expr(node)
        if isinstance(value, int):
            raise self.fn.error(node, "a constant has no width here: convert it")
        return value

    def _host_access(self, node: ast.Call, name: str) -> Typed | None:
        scalar = SCALARS["u" + name.lstrip("loadstre")]
        base = self.coerce(node, self.expr(node.args[0]), PTR)
        offset = self.expr(node.args[1]) if len(node.args) > 1 else 0
        wide = offset if isinstance(offset, int) else self._extend(offset, SCALARS["u64"]) \
            if offset.scalar.size < 8 else offset.value  # fmt: skip
        if name.startswith("load"):
            return Typed(self.b.ld(ir_type(scalar), base, wide), scalar)
        self.b.st(self.coerce(node, self.expr(node.args[2]), scalar), base, wide)
        return None

    def _intrinsic_select(self, node: ast.Call) -> Typed:
        cond = self.truth(node, self.expr(node.args[0]))
        left, right, scalar = self._meet(node, self.expr(node.args[1]), self.expr(node.args[2]))
        return Typed(self.b.select(cond, left, right), scalar)

    def _intrinsic_address_of(self, node: ast.Call) -> Typed:
        return Typed(self.place(node.args[0])[0], PTR)

    def _intrinsic_pointer_difference(self, node: ast.Call) -> Typed:
        a, b = (self.coerce(node, self.expr(arg), PTR) for arg in node.args)
        return Typed(self.b.op("ptrdiff", a, b), SCALARS["i64"])

    def _intrinsic_symbol(self, node: ast.Call) -> Typed:
        name = node.args[0]
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            raise self.fn.error(node, "symbol takes a literal name")
        return Typed(self.b.symbol(name.value), PTR)

    def _intrinsic_call_host(self, node: ast.Call) -> Typed | None:
        pointer = self.coerce(node, self.expr(node.args[0]), PTR)
        name = node.args[1]
        if not isinstance(name, ast.Constant) or name.value not in SCALARS:
            raise self.fn.error(node, "call_host's second argument names the result type")
        scalar = SCALARS[name.value]
        args = [self._typed(a).value for a in node.args[2:]]
        # Guest code may have set the FPU up as it likes; the host's code wants the default.
        saved = self.b.op("getmxcsr")
        self.b.effect("setmxcsr", self.b.const(DEFAULT_MXCSR, Type.I32))
        result = None
        if scalar is VOID:
            self.b.effect("callptr", pointer, *args, type=Type.VOID)
        else:
            result = Typed(self.b.op("callptr", pointer, *args, type=ir_type(scalar)), scalar)
        self.b.effect("setmxcsr", saved)
        return result

    def _intrinsic_fill(self, node: ast.Call) -> None:
        scalars = (PTR, SCALARS["u8"], SCALARS["u64"])
        args = [self.coerce(node, self.expr(a), s) for a, s in zip(node.args, scalars, strict=True)]
        self.b.effect("fill", *args)

    def _intrinsic_attempt(self, node: ast.Call) -> Typed | None:
        inner = node.args[0]
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name):
            callee = self.fn.scope.get(inner.func.id)
            if isinstance(callee, NativeFunction):
                return self.call_native(inner, callee, catch=True)
        raise self.fn.error(node, "attempt takes one call of a native function")

    def _intrinsic_enter(self, node: ast.Call) -> None:
        self.b.effect("enter", *(self.coerce(node, self.expr(a), PTR) for a in node.args))

    def _intrinsic_get_mxcsr(self, node: ast.Call) -> Typed:
        return Typed(self.b.op("getmxcsr"), SCALARS["u32"])

    def _intrinsic_set_mxcsr(self, node: ast.Call) -> None:
        self.b.effect("setmxcsr", self.coerce(node, self.expr(node.args[0]), SCALARS["u32"]))

    def _intrinsic_cycles(self, node: ast.Call) -> Typed:
        return Typed(self.b.op("cycles"), SCALARS["u64"])


def _narrowest(*values: int) -> Scalar:
    """The narrowest unsigned type (i64 if one is negative) that holds all values."""
    if min(values) < 0:
        return SCALARS["i64"]
    return next(SCALARS[f"u{bits}"] for bits in (8, 16, 32, 64) if max(values) < 1 << bits)


def _as_int(value: object) -> int | None:
    return int(value) if isinstance(value, (int, enum.IntEnum, enum.IntFlag)) else None
