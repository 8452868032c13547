"""Addition and subtraction: ADD ADC SUB SBB CMP INC DEC NEG XADD ADCX ADOX."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED: dict[str, str] = {}


def _group1(number: int, mnemonic: str) -> str:
    """The nine encodings of one of the eight two-operand instructions of the 8086."""
    base = 8 * number
    lock = "" if mnemonic == "CMP" else "lock"
    return f"""
    {base:02x}        {mnemonic} Eb,Gb  {lock}
    {base + 1:02x}    {mnemonic} Ev,Gv  {lock}
    {base + 2:02x}    {mnemonic} Gb,Eb
    {base + 3:02x}    {mnemonic} Gv,Ev
    {base + 4:02x}    {mnemonic} AL,Ib
    {base + 5:02x}    {mnemonic} rAX,Iz
    80/{number}       {mnemonic} Eb,Ib  {lock}
    81/{number}       {mnemonic} Ev,Iz  {lock}
    82/{number}       {mnemonic} Eb,Ib  i64 {lock}
    83/{number}       {mnemonic} Ev,Is  {lock}
    """


for _number, _mnemonic in enumerate(("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")):
    rows(_group1(_number, _mnemonic))

rows("""
40+         INC   Zv      i64
48+         DEC   Zv      i64
fe/0        INC   Eb      lock
fe/1        DEC   Eb      lock
ff/0        INC   Ev      lock
ff/1        DEC   Ev      lock
f6/3        NEG   Eb      lock
f7/3        NEG   Ev      lock
0f.c0       XADD  Eb,Gb   lock
0f.c1       XADD  Ev,Gv   lock
66:0f.38.f6 ADCX  Gy,Ey   ?adx
f3:0f.38.f6 ADOX  Gy,Ey   ?adx
""")


@lower("ADD")
def add(t: Translator, dst: Value, src: Value) -> Value:
    """ADD: DEST := DEST + SRC (SDM vol. 2A)."""
    result = dst + src
    t.flags.add(result, dst, src)
    return result


@lower("ADC")
def adc(t: Translator, dst: Value, src: Value) -> Value:
    """ADC: DEST := DEST + SRC + CF (SDM vol. 2A)."""
    carry = t.flags.cf()
    result = dst + src + carry.zext(dst.type)
    t.flags.adc(result, dst, src, carry)
    return result


@lower("SUB")
def sub(t: Translator, dst: Value, src: Value) -> Value:
    """SUB: DEST := DEST - SRC (SDM vol. 2B)."""
    result = dst - src
    t.flags.sub(result, dst, src)
    return result


@lower("SBB")
def sbb(t: Translator, dst: Value, src: Value) -> Value:
    """SBB: DEST := DEST - (SRC + CF) (SDM vol. 2B)."""
    borrow = t.flags.cf()
    result = dst - src - borrow.zext(dst.type)
    t.flags.sbb(result, dst, src, borrow)
    return result


@lower("CMP", dst="r")
def cmp(t: Translator, dst: Value, src: Value) -> None:
    """CMP: the flags of DEST - SRC (SDM vol. 2A)."""
    t.flags.sub(dst - src, dst, src)


@lower("INC")
def inc(t: Translator, dst: Value) -> Value:
    """INC: DEST := DEST + 1; CF stays (SDM vol. 2A)."""
    one = t.const(1, dst.bits)
    result = dst + one
    t.flags.add(result, dst, one)
    t.flags.keep_carry()
    return result


@lower("DEC")
def dec(t: Translator, dst: Value) -> Value:
    """DEC: DEST := DEST - 1; CF stays (SDM vol. 2A)."""
    one = t.const(1, dst.bits)
    result = dst - one
    t.flags.sub(result, dst, one)
    t.flags.keep_carry()
    return result


@lower("NEG")
def neg(t: Translator, dst: Value) -> Value:
    """NEG: DEST := 0 - DEST; CF := DEST was not 0 (SDM vol. 2B)."""
    result = -dst
    t.flags.sub(result, t.const(0, dst.bits), dst)
    return result


@lower("XADD", dst="raw")
def xadd(t: Translator, dst: Operand, src: Operand) -> None:
    """XADD: TEMP := SRC + DEST; SRC := DEST; DEST := TEMP (SDM vol. 2D)."""
    old, write_back = t.modify(dst)
    addend = t.read(src)
    result = old + addend
    # SRC first: when both name one register it ends with the sum. A store, which may fault,
    # must come before any register changes.
    if dst.is_memory:
        write_back(result)
        t.write(src, old)
    else:
        t.write(src, old)
        write_back(result)
    t.flags.add(result, old, addend)


def _chain(t: Translator, dst: Value, src: Value, carry: Value) -> tuple[Value, Value]:
    """dst + src + carry, and the carry out of it."""
    partial, extra = dst + src, carry.zext(dst.type)
    out = t.b.op("or", t.b.op("addc", dst, src), t.b.op("addc", partial, extra))
    return partial + extra, out


@lower("ADCX")
def adcx(t: Translator, dst: Value, src: Value) -> Value:
    """ADCX: DEST := DEST + SRC + CF; only CF changes (SDM vol. 2A)."""
    result, carry = _chain(t, dst, src, t.flags.cf())
    t.flags.put(cf=carry)
    return result


@lower("ADOX")
def adox(t: Translator, dst: Value, src: Value) -> Value:
    """ADOX: DEST := DEST + SRC + OF; only OF changes (SDM vol. 2A)."""
    result, carry = _chain(t, dst, src, t.flags.of())
    t.flags.put(of=carry)
    return result
