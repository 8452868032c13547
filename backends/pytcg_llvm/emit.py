"""IR functions to LLVM assembly text; text is several times faster to make than llvmlite objects.

Native functions use the C convention and take (parameters…). Threaded code has the signature
``preserve_nonecc void (env, rec, ram)``: LLVM keeps its three arguments in r12-r14, across calls
of C-convention helpers too, so a handler has neither prologue nor spills.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from pytcg.ir.blocks import Block, Function, Local, Op, Value
from pytcg.ir.ops import FLOATS, FMA, Type
from pytcg_llvm import crypto, strings

THREADED = "preserve_nonecc"
_COLD = "preserve_mostcc"
_PREDICATES = {"eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge"}
_PLAIN = {"add", "sub", "mul", "udiv", "urem", "sdiv", "srem", "and", "or", "xor"}
# Floating point is LLVM's constrained kind: the guest's MXCSR is the host's while guest code runs.
# But arithmetic on two operands is assembly. LLVM may exchange those of additions and products,
# where of two NaNs hardware gives the first, and it folds constants without looking at MXCSR:
# 0 - 0 is -0 when rounding down, and a denormal is zero under DAZ and raises a flag without.
_ORDERED = {f"{v}f{n}": n for v in ("", "v") for n in ("add", "sub", "mul", "div")}
_ROUND = 'metadata !"round.dynamic"'
_EXCEPT = 'metadata !"fpexcept.strict"'
_FCMP = {"feq": ("fcmp", "oeq"), "flt": ("fcmps", "olt"), "fle": ("fcmps", "ole"),
         "funord": ("fcmp", "uno")}  # fmt: skip
_WITH_OVERFLOW = {"addc": "uadd", "addo": "sadd", "subb": "usub", "subo": "ssub"}
_LANE_PLAIN = {"vadd": "add", "vsub": "sub", "vmul": "mul"}
_LANE_INTRINSIC = {"vadds": "sadd.sat", "vaddus": "uadd.sat", "vsubs": "ssub.sat",
                   "vsubus": "usub.sat", "vmins": "smin", "vmaxs": "smax", "vminu": "umin",
                   "vmaxu": "umax"}  # fmt: skip
_PAIR = "<2 x i64>"
"""What a 128-bit value is where it must stay in a vector register."""
# a in ST(1), b in ST(0); by opcode, as assemblers differ on what FSUBP is.
_X87_BINARY = {"xadd": ".byte 0xde, 0xc1", "xmul": ".byte 0xde, 0xc9", "xsub": ".byte 0xde, 0xe9",
               "xdiv": ".byte 0xde, 0xf9"}  # fmt: skip
_X87_STORES = {Type.F32: "fstps", Type.F64: "fstpl", Type.I16: "fistps", Type.I32: "fistpl",
               Type.I64: "fistpll"}  # fmt: skip


def _ty(type_: Type) -> str:
    if type_ is Type.F32:
        return "float"
    if type_ is Type.F64:
        return "double"
    if type_ is Type.F80:
        return "x86_fp80"
    return str(type_.value)


class _Emitter:
    def __init__(self, function: Function, declare: Callable[[str, str], None],
                 *, located: bool = False):  # fmt: skip
        self.function = function
        self.located = located
        self.declare = declare
        self.lines: list[str] = []
        self.temps = 0
        self.slot = False  # some op moves MXCSR, which goes through memory
        self.stores = 0
        self.status = False  # some op leaves an x87 status word
        self.strict = False  # some op is floating point: LLVM must not move it

    # Text of operands --------------------------------------------------------------------------

    def val(self, value: Value) -> str:
        if value.const is None:
            return f"%v{value.id}"
        if value.type is Type.PTR:
            return "null" if value.const == 0 else f"inttoptr (i64 {value.const} to ptr)"
        if value.type is Type.F64:
            return f"0x{value.const:016X}"
        if value.type is Type.F32:
            wide = struct.unpack("<f", struct.pack("<I", value.const))[0]
            return f"0x{struct.unpack('<Q', struct.pack('<d', wide))[0]:016X}"
        return str(value.const)

    def typed(self, value: Value) -> str:
        return f"{_ty(value.type)} {self.val(value)}"

    def temp(self, text: str) -> str:
        self.temps += 1
        name = f"%t{self.temps}"
        self.lines.append(f"  {name} = {text}")
        return name

    def out(self, op: Op, text: str) -> None:
        assert op.out is not None
        self.lines.append(f"  %v{op.out.id} = {text}")

    def intrinsic(self, name: str, result: str, *args: str) -> str:
        """Text of a call; each arg is "type value"."""
        types = ", ".join(a.rsplit(" ", 1)[0] for a in args)
        self.declare(name, f"declare {result} @{name}({types})")
        return f"call {result} @{name}({', '.join(args)})"

    def constrained(self, stem: str, result: str, *args: str, rounds: bool = True,
                    predicate: str = "") -> str:  # fmt: skip
        """Text of a floating-point operation in the current mode that raises sticky flags."""
        self.strict = True
        types = [result] if predicate == "" else []
        if stem in ("fptrunc", "fpext", "sitofp") or predicate:
            types.append(args[0].split(" ", 1)[0])
        name = f"llvm.experimental.constrained.{stem}.{'.'.join(map(_mangled, types))}"
        extra = [f'metadata !"{predicate}"'] if predicate else [_ROUND] if rounds else []
        return self.intrinsic(name, result, *args, *extra, _EXCEPT) + " strictfp"

    def ordered(self, mnemonic: str, type_: str, a: str, b: str) -> str:
        """Text of an instruction whose operands stay in this order.

        Even LLVM's assembler exchanges those of ADDPS and MULPS for a shorter VEX prefix.
        """
        if crypto.host_has("avx"):
            text, first = f"{{vex3}} v{mnemonic} $2, $1, $0", "x"
        else:
            text, first = f"{mnemonic} $2, $0", "0"
        return f'call {type_} asm sideeffect "{text}", "=x,{first},x"({type_} {a}, {type_} {b})'

    def compared(self, kind: str, type_: str, a: str, b: str, predicate: int) -> str:
        """Text of a comparison by one of the 32 predicates; all ones or zeros, as floats."""
        text, first = f"vcmp{kind} $${predicate}, $2, $1, $0", "x"
        if not crypto.host_has("avx"):
            text, first = f"cmp{kind} $${predicate}, $2, $0", "0"
        return f'call {type_} asm sideeffect "{text}", "=x,{first},x"({type_} {a}, {type_} {b})'

    def fused(self, kind: str, type_: str, a: str, b: str, c: str, mode: int) -> str:
        """Text of a * b + c; of NaNs the first of a, b, c counts."""
        text = f"vf{FMA[mode]}231{kind} $3, $2, $0"
        args = ", ".join(f"{type_} {x}" for x in (c, a, b))
        return f'call {type_} asm sideeffect "{text}", "=x,0,x,x"({args})'

    def _scalar_float(self, op: Op) -> None:
        first, mode = op.args[0], op.attrs["mode"]
        assert isinstance(mode, int)
        kind, ty = ("ss", "float") if first.type is Type.F32 else ("sd", "double")
        values = [self.val(a) for a in op.args]
        if op.name == "ffma":
            self.out(op, self.fused(kind, ty, values[0], values[1], values[2], mode))
            return
        mask = self.temp(self.compared(kind, ty, values[0], values[1], mode))
        bits = self.temp(f"bitcast {ty} {mask} to i{first.bits}")
        self.out(op, f"icmp ne i{first.bits} {bits}, 0")

    def _op_fexthalf(self, op: Op) -> None:
        self._halves(op, "vcvtph2ps $1, $0")

    def _op_ftrunchalf(self, op: Op) -> None:
        self._halves(op, f"vcvtps2ph $${op.attrs['mode']}, $1, $0")

    def _halves(self, op: Op, text: str) -> None:
        pair = f"{_PAIR} " + self._lanes(op.args[0], _PAIR)
        result = self.temp(f'call {_PAIR} asm sideeffect "{text}", "=x,x"({pair})')
        self.out(op, f"bitcast {_PAIR} {result} to i128")

    def opaque(self, value: Value) -> str:
        """The operand as LLVM can't know it, for what it would fold without looking at MXCSR."""
        ty = _ty(value.type)
        return f"{ty} " + self.temp(f'call {ty} asm "", "=x,0"({self.typed(value)})')

    # The function ------------------------------------------------------------------------------

    def emit(self) -> str:
        f = self.function
        alias = " noalias" if f.region else ""
        params = ", ".join(f"{_ty(p.type)}{alias} %v{p.id}"
                           for p in (_in_order(f.params) if f.threaded else f.params))
        convention = f"{THREADED} " if f.threaded else f"{_COLD} " if f.cold else ""
        for local in f.locals:
            type_ = _PAIR if local.vector else _ty(local.type)
            self.lines.append(f"  %l{local.id} = alloca {type_}")
        self.lines.append(f"  br label %{f.blocks[0].label}")
        for block in f.blocks:
            self.lines.append(f"{block.label}:")
            for op in block.ops:
                first = len(self.lines)
                self.op(op)
                if self.located:
                    self._locate(first, op.line)
        strict = " strictfp" if self.strict else ""
        result = f"{convention}{_ty(f.result)}"
        about = f" !dbg !{_SUBPROGRAM}" if self.located else ""
        head = f"define dso_local {result} @{f.name}({params}) nounwind{strict} #0{about} {{"
        slots = ["  %mxcsr = alloca i32"] if self.slot else []
        slots += ["  %x87status = alloca i16"] if self.status else []
        return "\n".join([head, "start:", *slots, *self.lines, "}"])

    def _locate(self, first: int, line: int) -> None:
        """Say of which line the text since ``first`` is."""
        for at in range(first, len(self.lines)):
            self.lines[at] += f", !dbg !{_FIRST_LINE + line}"

    def op(self, op: Op) -> None:
        name = op.name
        if name in _PLAIN:
            a, b = op.args
            self.out(op, f"{name} {self.typed(a)}, {self.val(b)}")
        elif name in _PREDICATES:
            a, b = op.args
            self.out(op, f"icmp {name} {self.typed(a)}, {self.val(b)}")
        elif name in ("fcmp", "ffma"):
            self._scalar_float(op)
        elif name in _ORDERED and name[0] == "f":
            size = "ss" if op.args[0].type is Type.F32 else "sd"
            self.out(op, self.ordered(_ORDERED[name] + size, _ty(op.args[0].type),
                                      *map(self.val, op.args)))  # fmt: skip
        elif name[0] == "v":
            self._vector(op)
        elif name in crypto.INSTRUCTIONS or name == "crc32c":
            make = crypto.emit_crc32c if name == "crc32c" else crypto.emit
            args = [self.typed(a) for a in op.args]
            self.out(op, make(op, args, self.temp, self.intrinsic))
        elif name in strings.COMPARISONS:
            args = [self.typed(a) for a in op.args]
            self.out(op, strings.emit(op, args, self.temp, self.intrinsic))
        else:
            getattr(self, "_op_" + name)(op)

    # Integer -----------------------------------------------------------------------------------

    def _shift(self, op: Op, llvm: str) -> None:
        a, b = op.args
        if b.const is not None:
            self.out(op, f"{llvm} {self.typed(a)}, {b.const % a.bits}")
            return
        count = self.temp(f"and {self.typed(b)}, {a.bits - 1}")
        self.out(op, f"{llvm} {self.typed(a)}, {count}")

    def _op_shl(self, op: Op) -> None:
        self._shift(op, "shl")

    def _op_lshr(self, op: Op) -> None:
        self._shift(op, "lshr")

    def _op_ashr(self, op: Op) -> None:
        self._shift(op, "ashr")

    def _op_rotl(self, op: Op) -> None:
        a, b = (self.typed(x) for x in op.args)
        ty = _ty(op.args[0].type)
        self.out(op, self.intrinsic(f"llvm.fshl.{ty}", ty, a, a, b))

    def _op_rotr(self, op: Op) -> None:
        a, b = (self.typed(x) for x in op.args)
        ty = _ty(op.args[0].type)
        self.out(op, self.intrinsic(f"llvm.fshr.{ty}", ty, a, a, b))

    def _op_neg(self, op: Op) -> None:
        self.out(op, f"sub {_ty(op.args[0].type)} 0, {self.val(op.args[0])}")

    def _op_not(self, op: Op) -> None:
        self.out(op, f"xor {self.typed(op.args[0])}, -1")

    def _unary_intrinsic(self, op: Op, stem: str, *extra: str) -> None:
        ty = _ty(op.args[0].type)
        self.out(op, self.intrinsic(f"llvm.{stem}.{ty}", ty, self.typed(op.args[0]), *extra))

    def _op_bswap(self, op: Op) -> None:
        self._unary_intrinsic(op, "bswap")

    def _op_clz(self, op: Op) -> None:
        self._unary_intrinsic(op, "ctlz", "i1 false")

    def _op_ctz(self, op: Op) -> None:
        self._unary_intrinsic(op, "cttz", "i1 false")

    def _op_popcnt(self, op: Op) -> None:
        self._unary_intrinsic(op, "ctpop")

    def _wide_multiply(self, op: Op, extend: str) -> None:
        a, b = op.args
        wide = f"i{a.bits * 2}"
        x, y = (self.temp(f"{extend} {self.typed(v)} to {wide}") for v in (a, b))
        product = self.temp(f"mul {wide} {x}, {y}")
        high = self.temp(f"lshr {wide} {product}, {a.bits}")
        self.out(op, f"trunc {wide} {high} to {_ty(a.type)}")

    def _op_mulhu(self, op: Op) -> None:
        self._wide_multiply(op, "zext")

    def _op_mulhs(self, op: Op) -> None:
        self._wide_multiply(op, "sext")

    def _op_udivw(self, op: Op) -> None:
        """As assembly: LLVM would call a library for a dividend of twice a register's width."""
        high, low, divisor = (self.typed(a) for a in op.args)
        ty = _ty(op.args[0].type)
        suffix = {16: "w", 32: "l", 64: "q"}[op.args[0].bits]
        pair = self.temp(f'call {{{ty}, {ty}}} asm sideeffect "div{suffix} $4", '
                         f'"={{ax}},={{dx}},{{ax}},{{dx}},r,~{{flags}}"({low}, {high}, {divisor})')
        self.out(op, f"extractvalue {{{ty}, {ty}}} {pair}, 0")

    def _overflow(self, op: Op) -> None:
        a, b = op.args
        ty = _ty(a.type)
        stem = f"llvm.{_WITH_OVERFLOW[op.name]}.with.overflow.{ty}"
        pair = self.temp(self.intrinsic(stem, f"{{{ty}, i1}}", self.typed(a), self.typed(b)))
        self.out(op, f"extractvalue {{{ty}, i1}} {pair}, 1")

    _op_addc = _op_addo = _op_subb = _op_subo = _overflow

    def _op_select(self, op: Op) -> None:
        c, a, b = op.args
        self.out(op, f"select {self.typed(c)}, {self.typed(a)}, {self.typed(b)}")

    def _convert(self, op: Op) -> None:
        self.out(op, f"{op.name} {self.typed(op.args[0])} to {_ty(op.type_attr())}")

    _op_zext = _op_sext = _op_trunc = _op_bitcast = _convert

    # Memory, locals, calls ---------------------------------------------------------------------

    def _op_ptradd(self, op: Op) -> None:
        a, b = op.args
        self.out(op, f"getelementptr i8, ptr {self.val(a)}, {self.typed(b)}")

    def _op_ptrdiff(self, op: Op) -> None:
        a, b = (self.temp(f"ptrtoint ptr {self.val(v)} to i64") for v in op.args)
        self.out(op, f"sub i64 {a}, {b}")

    def _op_ld(self, op: Op) -> None:
        self.out(op, f"load {_ty(op.type_attr())}, ptr {self.val(op.args[0])}, align 1")

    def _op_st(self, op: Op) -> None:
        value, pointer = op.args
        self.lines.append(f"  store {self.typed(value)}, ptr {self.val(pointer)}, align 1")

    def _op_ldg(self, op: Op) -> None:
        pointer = self.val(op.args[0])
        if op.type_attr() is Type.I128:
            wide = self.temp(f"load volatile {_PAIR}, ptr {pointer}, align 1")
            self.out(op, f"bitcast {_PAIR} {wide} to i128")
        else:
            self.out(op, f"load volatile {_ty(op.type_attr())}, ptr {pointer}, align 1")

    def _op_stg(self, op: Op) -> None:
        value, pointer = op.args
        text = self.typed(value)
        if value.type is Type.I128:
            text = f"{_PAIR} " + self.temp(f"bitcast {text} to {_PAIR}")
        self.lines.append(f"  store volatile {text}, ptr {self.val(pointer)}, align 1")

    def _op_fill(self, op: Op) -> None:
        pointer, byte, size = (self.typed(a) for a in op.args)
        name = "llvm.memset.p0.i64"
        self.declare(name, f"declare void @{name}(ptr, i8, i64, i1)")
        self.lines.append(f"  call void @{name}({pointer}, {byte}, {size}, i1 false)")

    def _op_get(self, op: Op) -> None:
        local = op.attrs["local"]
        assert isinstance(local, Local)
        if local.vector:
            pair = self.temp(f"load {_PAIR}, ptr %l{local.id}")
            self.out(op, f"bitcast {_PAIR} {pair} to i128")
        else:
            self.out(op, f"load {_ty(local.type)}, ptr %l{local.id}")

    def _op_set(self, op: Op) -> None:
        local = op.attrs["local"]
        assert isinstance(local, Local)
        value = self.typed(op.args[0])
        if local.vector:
            value = f"{_PAIR} " + self.temp(f"bitcast {value} to {_PAIR}")
        self.lines.append(f"  store {value}, ptr %l{local.id}")

    def _op_symbol(self, op: Op) -> None:
        name = str(op.attrs["name"])
        self.declare(name, f"@{name} = external dso_local global i8")
        self.out(op, f"getelementptr i8, ptr @{name}, i64 0")

    def _call_text(self, callee: str, args: Iterable[Value], type_: Type, *,
                   cold: bool = False) -> str:  # fmt: skip
        convention = f"{_COLD} " if cold else ""
        return f"call {convention}{_ty(type_)} {callee}({', '.join(self.typed(a) for a in args)})"

    def _emit_call(self, op: Op, text: str) -> None:
        if op.out is None:
            self.lines.append("  " + text)
        else:
            self.out(op, text)

    def _op_call(self, op: Op) -> None:
        callee, type_ = str(op.attrs["callee"]), op.type_attr()
        types = ", ".join(_ty(a.type) for a in op.args)
        cold = bool(op.attrs.get("cold"))
        convention = f"{_COLD} " if cold else ""
        self.declare(callee, f"declare dso_local {convention}{_ty(type_)} @{callee}({types})")
        self._emit_call(op, self._call_text(f"@{callee}", op.args, type_, cold=cold))

    def _op_callptr(self, op: Op) -> None:
        text = self._call_text(self.val(op.args[0]), op.args[1:], op.type_attr())
        self._emit_call(op, text)

    def _op_enter(self, op: Op) -> None:
        code, *args = op.args
        arguments = ", ".join(self.typed(a) for a in _in_order(args))
        self.lines.append(f"  call {THREADED} void {self.val(code)}({arguments})")

    # Scalar floating point ---------------------------------------------------------------------

    def _op_fsqrt(self, op: Op) -> None:
        self.out(op, self.constrained("sqrt", _ty(op.args[0].type), self.opaque(op.args[0])))

    def _fcmp(self, op: Op) -> None:
        a, b = self.opaque(op.args[0]), self.typed(op.args[1])
        stem, predicate = _FCMP[op.name]
        self.out(op, self.constrained(stem, "i1", a, b, predicate=predicate))

    _op_feq = _op_flt = _op_fle = _op_funord = _fcmp

    def _op_fext(self, op: Op) -> None:
        self.out(op, self.constrained("fpext", "double", self.opaque(op.args[0]), rounds=False))

    def _op_ftrunc(self, op: Op) -> None:
        self.out(op, self.constrained("fptrunc", "float", self.opaque(op.args[0])))

    def _op_sitof(self, op: Op) -> None:
        self.out(op, self.constrained("sitofp", _ty(op.type_attr()), self.typed(op.args[0])))

    def _to_int(self, op: Op, truncating: str) -> None:
        """As assembly: LLVM would move its intrinsics past a getmxcsr."""
        value, type_ = op.args[0], op.type_attr()
        single = "s" if value.type is Type.F32 else "d"
        wide = "q" if type_ is Type.I64 else "l"
        text = f"cvt{truncating}s{single}2si{wide} $1, $0"
        self.out(op, f'call {_ty(type_)} asm sideeffect "{text}", "=r,x"({self.typed(value)})')

    def _op_ftosi(self, op: Op) -> None:
        self._to_int(op, "t")

    def _op_ftosi_round(self, op: Op) -> None:
        self._to_int(op, "")

    def _op_fround(self, op: Op) -> None:
        kind = "ss" if op.args[0].type is Type.F32 else "sd"
        self.out(op, self._rounded(kind, _ty(op.args[0].type), self.val(op.args[0]), op))

    def _rounded(self, kind: str, type_: str, value: str, op: Op) -> str:
        """ROUNDSS and its like, as assembly for the reason that `_to_int` gives."""
        text = f"round{kind} $${op.attrs['mode']}, $1, $0"
        return f'call {type_} asm sideeffect "{text}", "=x,x"({type_} {value})'

    # Vectors -----------------------------------------------------------------------------------

    def _lanes(self, value: Value, vector: str) -> str:
        return self.temp(f"bitcast {self.typed(value)} to {vector}")

    def _vector(self, op: Op) -> None:
        lane = op.attrs["lane"]
        assert isinstance(lane, int)
        count = 128 // lane
        floating = op.name.startswith("vf")
        element = {32: "float", 64: "double"}[lane] if floating else f"i{lane}"
        vector = f"<{count} x {element}>"
        args = [self._lanes(a, vector) for a in op.args if a.type is Type.I128]
        if op.name == "vlane":
            self.out(op, f"extractelement {vector} {args[0]}, {self.typed(op.args[1])}")
            return
        if op.name in ("vshl", "vlshr", "vashr"):
            result = self._lane_shift(op, vector, args[0], lane, count)
        elif op.name == "vmsb":
            sign = self.temp(f"icmp slt {vector} {args[0]}, zeroinitializer")
            mask = self.temp(f"bitcast <{count} x i1> {sign} to i{count}")
            self.out(op, f"zext i{count} {mask} to i32")
            return
        elif op.name == "vinsert":
            element, index = (self.typed(a) for a in op.args[1:])
            result = self.temp(f"insertelement {vector} {args[0]}, {element}, {index}")
        elif op.name == "vshuffle":
            order = op.attrs["order"]
            assert isinstance(order, tuple)
            mask = ", ".join(f"i32 {i}" for i in order)
            pair = f"{vector} {args[0]}, {vector} {args[1]}"
            result = self.temp(f"shufflevector {pair}, <{count} x i32> <{mask}>")
        elif op.name == "vpshufb":
            both = (f"{vector} {a}" for a in args)
            result = self.temp(self.intrinsic("llvm.x86.ssse3.pshuf.b.128", vector, *both))
        elif op.name == "vfcmp":
            kind, mode = "ps" if lane == 32 else "pd", op.attrs["mode"]
            assert isinstance(mode, int)
            result = self.temp(self.compared(kind, vector, args[0], args[1], mode))
        elif op.name == "vffma":
            kind, mode = "ps" if lane == 32 else "pd", op.attrs["mode"]
            assert isinstance(mode, int)
            result = self.temp(self.fused(kind, vector, args[0], args[1], args[2], mode))
        elif op.name in ("vshlv", "vlshrv", "vashrv"):
            result = self._lanewise_shift(op.name[1:-1], vector, args, lane, count)
        elif op.name == "vfround":
            kind = "ps" if lane == 32 else "pd"
            result = self.temp(self._rounded(kind, vector, args[0], op))
        elif op.name.startswith(("vpack", "vunpack")):
            result, vector = self._shuffle(op, vector, args, lane, count)
        else:
            result = self._lane_op(op.name, vector, args, lane, count)
        self.out(op, f"bitcast {vector} {result} to i128")

    def _lane_op(self, name: str, vector: str, args: list[str], lane: int, count: int) -> str:
        pair = f"{vector} {', '.join(args)}"
        if name in _LANE_PLAIN:
            return self.temp(f"{_LANE_PLAIN[name]} {pair}")
        if name in _ORDERED:
            size = "ps" if lane == 32 else "pd"
            return self.temp(self.ordered(_ORDERED[name] + size, vector, *args))
        if name == "vfsqrt":
            return self.temp(self.constrained("sqrt", vector, f"{vector} {args[0]}"))
        if name in _LANE_INTRINSIC:
            stem = f"llvm.{_LANE_INTRINSIC[name]}.v{count}i{lane}"
            return self.temp(self.intrinsic(stem, vector, *(f"{vector} {a}" for a in args)))
        if name in ("veq", "vgt"):
            predicate = "eq" if name == "veq" else "sgt"
            mask = self.temp(f"icmp {predicate} {pair}")
            return self.temp(f"sext <{count} x i1> {mask} to {vector}")
        return self._lane_widened(name, vector, args, lane, count)

    def _lane_widened(self, name: str, vector: str, args: list[str], lane: int,
                      count: int) -> str:  # fmt: skip
        """vmulhu, vmulhs, vmulhrs, vavg: computed in lanes of twice the width."""
        extend = "sext" if name in ("vmulhs", "vmulhrs") else "zext"
        wide = f"<{count} x i{lane * 2}>"
        a, b = (self.temp(f"{extend} {vector} {x} to {wide}") for x in args)
        if name == "vavg":
            total = self.temp(f"add {wide} {a}, {b}")
            total = self.temp(f"add {wide} {total}, {_splat(count, lane * 2, 1)}")
            shift = 1
        elif name == "vmulhrs":
            total = self.temp(f"mul {wide} {a}, {b}")
            total = self.temp(f"lshr {wide} {total}, {_splat(count, lane * 2, lane - 2)}")
            total = self.temp(f"add {wide} {total}, {_splat(count, lane * 2, 1)}")
            shift = 1
        else:
            total = self.temp(f"mul {wide} {a}, {b}")
            shift = lane
        high = self.temp(f"lshr {wide} {total}, {_splat(count, lane * 2, shift)}")
        return self.temp(f"trunc {wide} {high} to {vector}")

    def _lane_shift(self, op: Op, vector: str, value: str, lane: int, count: int) -> str:
        amount = op.args[1]
        limit = lane - 1
        over = self.temp(f"icmp ugt i64 {self.val(amount)}, {limit}")
        clamped = self.temp(f"select i1 {over}, i64 {limit}, i64 {self.val(amount)}")
        narrow = clamped if lane == 64 else self.temp(f"trunc i64 {clamped} to i{lane}")
        first = self.temp(f"insertelement {vector} poison, i{lane} {narrow}, i32 0")
        zeros = f"<{count} x i32> zeroinitializer"
        splat = self.temp(f"shufflevector {vector} {first}, {vector} poison, {zeros}")
        shifted = self.temp(f"{op.name[1:]} {vector} {value}, {splat}")
        if op.name == "vashr":
            return shifted
        return self.temp(f"select i1 {over}, {vector} zeroinitializer, {vector} {shifted}")

    def _lanewise_shift(self, name: str, vector: str, args: list[str], lane: int,
                        count: int) -> str:  # fmt: skip
        limit = _splat(count, lane, lane - 1)
        over = self.temp(f"icmp ugt {vector} {args[1]}, {limit}")
        mask = f"<{count} x i1> {over}"
        clamped = self.temp(f"select {mask}, {vector} {limit}, {vector} {args[1]}")
        shifted = self.temp(f"{name} {vector} {args[0]}, {clamped}")
        if name == "ashr":
            return shifted
        return self.temp(f"select {mask}, {vector} zeroinitializer, {vector} {shifted}")

    def _shuffle(self, op: Op, vector: str, args: list[str], lane: int,
                 count: int) -> tuple[str, str]:  # fmt: skip
        pair = f"{vector} {args[0]}, {vector} {args[1]}"
        if op.name.startswith("vunpack"):
            start = 0 if op.name == "vunpackl" else count // 2
            order = [i for k in range(start, start + count // 2) for i in (k, k + count)]
            mask = ", ".join(f"i32 {i}" for i in order)
            return self.temp(f"shufflevector {pair}, <{count} x i32> <{mask}>"), vector
        half = lane // 2
        low, high = (-(1 << (half - 1)), (1 << (half - 1)) - 1)
        if op.name == "vpackus":
            low, high = 0, (1 << half) - 1
        mask = ", ".join(f"i32 {i}" for i in range(2 * count))
        both = f"<{2 * count} x i{lane}>"
        joined = self.temp(f"shufflevector {pair}, <{2 * count} x i32> <{mask}>")
        for stem, bound in (("smax", low), ("smin", high)):
            limit = _splat(2 * count, lane, bound)
            full = f"llvm.{stem}.v{2 * count}i{lane}"
            self.declare(full, f"declare {both} @{full}({both}, {both})")
            joined = self.temp(f"call {both} @{full}({both} {joined}, {both} {limit})")
        result = f"<{2 * count} x i{half}>"
        return self.temp(f"trunc {both} {joined} to {result}"), result

    # x87 ---------------------------------------------------------------------------------------

    def _x87(self, op: Op, code: str, constraints: str, *args: str, result: str = "") -> None:
        """An x87 instruction and FNSTSW: nothing must come between them."""
        self.status = True
        types = f"{{{result}, i16}}" if result else "i16"
        text = (f'call {types} asm sideeffect "{code}\\0A\\09fnstsw %ax", '
                f'"{constraints},~{{fpsr}},~{{flags}},~{{dirflag}}"({", ".join(args)})')
        word = both = self.temp(text)
        if result:
            self.out(op, f"extractvalue {types} {both}, 0")
            word = self.temp(f"extractvalue {types} {both}, 1")
        self.lines.append(f"  store i16 {word}, ptr %x87status")
        if op.name in ("xcom", "xucom"):
            self.out(op, f"zext i16 {word} to i32")

    def _x87_binary(self, op: Op) -> None:
        a, b = (self.typed(x) for x in op.args)
        self._x87(op, _X87_BINARY[op.name], "={st},={ax},0,{st(1)},~{st(1)}", b, a,
                  result="x86_fp80")  # fmt: skip

    def _x87_compare(self, op: Op) -> None:
        a, b = (self.typed(x) for x in op.args)
        code = "fcompp" if op.name == "xcom" else "fucompp"
        self._x87(op, code, "={ax},{st},{st(1)},~{st},~{st(1)}", a, b)

    def _x87_unary(self, op: Op) -> None:
        code = {"xsqrt": "fsqrt", "xrint": "frndint"}[op.name]
        self._x87(op, code, "={st},={ax},0", self.typed(op.args[0]), result="x86_fp80")

    def _x87_store(self, op: Op) -> None:
        """Through memory, as the instructions go."""
        ty, suffix = _ty(op.type_attr()), _X87_STORES[op.type_attr()]
        self.stores += 1
        place = f"%x87store{self.stores}"
        self.lines.insert(0, f"  {place} = alloca {ty}")
        self._x87(op, f"{suffix} $1", "={ax},=*m,{st},~{st}", f"ptr elementtype({ty}) {place}",
                  self.typed(op.args[0]))  # fmt: skip
        self.out(op, f"load {ty}, ptr {place}")

    _op_xadd = _op_xsub = _op_xmul = _op_xdiv = _x87_binary
    _op_xcom = _op_xucom = _x87_compare
    _op_xsqrt = _op_xrint = _x87_unary
    _op_xtrunc = _op_xtosi = _x87_store

    def _op_xstatus(self, op: Op) -> None:
        self.status = True
        self.out(op, f"zext i16 {self.temp('load i16, ptr %x87status')} to i32")

    def _op_xclear(self, op: Op) -> None:
        self.lines.append('  call void asm sideeffect "fnclex", "~{fpsr},~{dirflag},~{flags}"()')

    def _op_xext(self, op: Op) -> None:
        self.out(op, f"fpext {self.typed(op.args[0])} to x86_fp80")

    def _op_xfromi(self, op: Op) -> None:
        self.out(op, f"sitofp {self.typed(op.args[0])} to x86_fp80")

    def _op_xneg(self, op: Op) -> None:
        self.out(op, f"fneg {self.typed(op.args[0])}")

    def _op_xabs(self, op: Op) -> None:
        self.out(op, self.intrinsic("llvm.fabs.f80", "x86_fp80", self.typed(op.args[0])))

    # The host ----------------------------------------------------------------------------------

    def _op_cycles(self, op: Op) -> None:
        self.out(op, self.intrinsic("llvm.readcyclecounter", "i64"))

    def _op_getmxcsr(self, op: Op) -> None:
        self.slot = True
        self.lines.append("  " + self.intrinsic("llvm.x86.sse.stmxcsr", "void", "ptr %mxcsr"))
        self.out(op, "load i32, ptr %mxcsr")

    def _op_setmxcsr(self, op: Op) -> None:
        self.slot = True
        self.lines.append(f"  store {self.typed(op.args[0])}, ptr %mxcsr")
        self.lines.append("  " + self.intrinsic("llvm.x86.sse.ldmxcsr", "void", "ptr %mxcsr"))

    # Terminals ---------------------------------------------------------------------------------

    def _op_br(self, op: Op) -> None:
        self.lines.append(f"  br label %{_label(op.attrs['target'])}")

    def _op_brif(self, op: Op) -> None:
        then, otherwise = _label(op.attrs["then"]), _label(op.attrs["otherwise"])
        likely = op.attrs["likely"]
        hint = "" if likely is None else ", !prof !0" if likely else ", !prof !1"
        cond = self.typed(op.args[0])
        self.lines.append(f"  br {cond}, label %{then}, label %{otherwise}{hint}")

    def _op_switch(self, op: Op) -> None:
        cases = op.attrs["cases"]
        assert isinstance(cases, tuple)
        ty = _ty(op.args[0].type)
        arms = " ".join(f"{ty} {case}, label %{block.label}" for case, block in cases)
        default = _label(op.attrs["default"])
        self.lines.append(f"  switch {self.typed(op.args[0])}, label %{default} [{arms}]")

    def _op_ret(self, op: Op) -> None:
        self.lines.append(f"  ret {self.typed(op.args[0])}" if op.args else "  ret void")

    def _op_unwind(self, op: Op) -> None:
        result = self.function.result
        zero = {Type.VOID: "void", Type.PTR: "ptr null"}.get(result)
        if zero is None:
            zero = f"{_ty(result)} " + ("0.0" if result in FLOATS else "0")
        self.lines.append(f"  ret {zero}")

    def _op_unreachable(self, op: Op) -> None:
        self.lines.append("  unreachable")

    def _op_tail(self, op: Op) -> None:
        code, *args = op.args
        arguments = ", ".join(self.typed(a) for a in _in_order(args))
        self.lines.append(f"  musttail call {THREADED} void {self.val(code)}({arguments})")
        self.lines.append("  ret void")


def _in_order(values: Sequence[Value]) -> tuple[Value, ...]:
    """Threaded code's (env, rec, ram) as they are passed: in r13, r12 and r14.

    An address made from r12 takes a byte more, and env is what most are made from.
    """
    env, rec, ram = values
    return rec, env, ram


def _mangled(type_: str) -> str:
    """A type as intrinsic names spell it."""
    scalar = {"float": "f32", "double": "f64"}
    if type_ in scalar:
        return scalar[type_]
    if type_[0] == "<":
        count, element = type_[1:-1].split(" x ")
        return f"v{count}{scalar.get(element, element)}"
    return type_


def _splat(count: int, bits: int, value: int) -> str:
    return "<" + ", ".join([f"i{bits} {value}"] * count) + ">"


def _label(block: object) -> str:
    assert isinstance(block, Block)
    return block.label


HEADER = """\
attributes #0 = {{ "frame-pointer"="none" {features} }}
!0 = !{{!"branch_weights", i32 4000, i32 1}}
!1 = !{{!"branch_weights", i32 1, i32 4000}}
"""


_SUBPROGRAM, _FIRST_LINE = 5, 10
_DEBUG = """\
!llvm.dbg.cu = !{!2}
!llvm.module.flags = !{!6}
!2 = distinct !DICompileUnit(language: DW_LANG_C, file: !3, emissionKind: LineTablesOnly)
!3 = !DIFile(filename: "guest", directory: "")
!4 = !DISubroutineType(types: !{})
!5 = distinct !DISubprogram(name: "guest", file: !3, type: !4, unit: !2, spFlags: 8)
!6 = !{i32 2, !"Debug Info Version", i32 3}
"""


def emit_located(function: Function) -> str:
    """LLVM text of a module with one function that says of which line (`Op.line`) its code is."""
    declarations: dict[str, str] = {}
    body = _Emitter(function, declarations.__setitem__, located=True).emit()
    declarations.pop(function.name, None)
    last = max(op.line for block in function.blocks for op in block.ops)
    lines = [f"!{_FIRST_LINE + line} = !DILocation(line: {line}, scope: !{_SUBPROGRAM})"
             for line in range(last + 1)]  # fmt: skip
    head = HEADER.format(features="")
    return "\n".join([*declarations.values(), body, head, _DEBUG, *lines])


def emit_module(functions: Iterable[Function], data: Iterable[tuple[str, bytes]] = (),
                *, features: str = "") -> str:  # fmt: skip
    """LLVM text of one module: ``functions`` and constant ``data`` tables by symbol."""
    declarations: dict[str, str] = {}

    def declare(name: str, text: str) -> None:
        declarations.setdefault(name, text)

    bodies = {f.name: _Emitter(f, declare).emit() for f in functions}
    tables = {name: _data(name, blob) for name, blob in data}
    for name in (*bodies, *tables):
        declarations.pop(name, None)
    parts = [*declarations.values(), *tables.values(), *bodies.values()]
    return "\n".join([*parts, HEADER.format(features=features)])


def _data(name: str, blob: bytes) -> str:
    text = "".join(f"\\{byte:02X}" for byte in blob)
    return f'@{name} = dso_local constant [{len(blob)} x i8] c"{text}", align 64'
