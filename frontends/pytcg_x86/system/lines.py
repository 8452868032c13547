"""Cache lines, direct stores, RDPID, SERIALIZE: what later processors have beside CLFLUSH."""

from __future__ import annotations

from pytcg.exec.layout import ExecEnv
from pytcg.ir.blocks import Value
from pytcg.softmmu.access import load_u64, probe_read, probe_write, store_u64
from pytcg_native import native, u64
from pytcg_x86.core.state import Env, Seg, Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.ae/6/m   CLWB       Mb     nosize ?clwb
0f.01/7/r4     CLZERO            nosize ?clzero
f3:0f.09       WBNOINVD          cpl0 nosize ?wbnoinvd
np:0f.01/5/r0  SERIALIZE         nosize ?serialize
np:0f.38.f9/m  MOVDIRI    My,Gy  ?movdiri
66:0f.38.f8/m  MOVDIR64B  Gy,M   f64 ?movdir64b
f3:0f.c7/7/r   RDPID      Ry     f64 ?rdpid
""")

LINE = 64


@lower("CLWB", dst="raw")
def clwb(t: Translator, src: Operand) -> None:
    """CLWB: faults as a load would; there is no cache to write back (SDM vol. 2A)."""
    t.load(8, t.address(8))


@lower("WBNOINVD", "SERIALIZE", dst="raw")
def nothing(t: Translator, *operands: Operand) -> None:
    """No caches, and every instruction is done when the next begins."""


@lower("MOVDIRI", dst="w")
def movdiri(t: Translator, src: Value) -> Value:
    """MOVDIRI: a store past the caches (SDM vol. 2B)."""
    return src


@lower("RDPID", dst="raw")
def rdpid(t: Translator, dst: Operand) -> None:
    """RDPID: DEST := IA32_TSC_AUX (SDM vol. 2B)."""
    t.write(dst, t.ld_env("tsc_aux").resize(dst.type))


@native
def clear_line(env: Env, address: u64) -> None:
    probe_write(ExecEnv(env), address, LINE)
    for i in range(u64(0), u64(LINE // 8)):
        store_u64(ExecEnv(env), address + 8 * i, 0)


@lower("CLZERO", dst="raw")
def clzero(t: Translator) -> None:
    """CLZERO: the line that DS:rAX is in becomes 0 (APM vol. 3)."""
    offset = t.wrap_offset(t.ld_env("gpr", 0)) & ~(LINE - 1)
    t.call(clear_line, t.env, t.address_at(offset, 8 * LINE, write=True))


@native
def copy_line(env: Env, target: u64, source: u64) -> None:
    """All that can fault comes before the first store."""
    probe_read(ExecEnv(env), source, LINE)
    probe_write(ExecEnv(env), target, LINE)
    for i in range(u64(0), u64(8)):
        env.scratch[i] = load_u64(ExecEnv(env), source + 8 * i)
    for k in range(u64(0), u64(8)):
        store_u64(ExecEnv(env), target + 8 * k, env.scratch[k])


@lower("MOVDIR64B", dst="raw")
def movdir64b(t: Translator, dst: Operand, src: Operand) -> None:
    """MOVDIR64B: 64 bytes to ES:reg, which must be aligned to them (SDM vol. 2B)."""
    source = t.address(8 * LINE)
    register = t.read(Operand("reg", 64, dst.where))
    target = t.segment_address(Seg.ES, t.wrap_offset(register), 8 * LINE, write=True)
    t.raise_if((target & (LINE - 1)).ne(0), Vector.GP, 0)
    t.call(copy_line, t.env, target, source)
