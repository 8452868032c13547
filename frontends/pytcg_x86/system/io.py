"""I/O ports: privilege (IOPL, the TSS's permission bitmap) and the way to the board.

IN and OUT are here; INS and OUTS (`pytcg_x86.integer.string`) use the same natives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.exec.trap import trap_port
from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_native import call_host, native, ptr, u32, u64, unlikely
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.state import Env, Host, Mode, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.descriptor import kernel_load

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Operand, Translator

_MAP_BASE = 0x66  # offset of the I/O map base in a 32- or 64-bit TSS
_TSS = 0x09
_TSS_MASK = 0x1D  # S and type without the busy bit


@native
def check_bitmap(env: Env, port: u32, size: u32) -> None:
    """#GP(0) unless the TSS permits each of the ports (SDM vol. 1, 19.5.2)."""
    limit: u64 = env.seg_limit[Seg.TR]
    base: u64 = env.seg_base[Seg.TR]
    if (env.seg_attr[Seg.TR] & _TSS_MASK) != _TSS or limit < _MAP_BASE + 1:
        raise_error(env, Vector.GP, 0)
    offset: u64 = kernel_load(env, base + _MAP_BASE, 2) + (port >> 3)
    # Two bytes are always read: the map ends with a byte of ones.
    if offset + 1 > limit:
        raise_error(env, Vector.GP, 0)
    wanted: u64 = ((1 << u64(size)) - 1) << (port & 7)
    if (kernel_load(env, base + offset, 2) & wanted) != 0:
        raise_error(env, Vector.GP, 0)


@native
def check_io(env: Env, port: u32, size: u32) -> None:
    """#GP(0) if this code may not touch the ports ``port`` to ``port`` + ``size`` - 1.

    Else they are going to be: breakpoints on them count.
    """
    if (env.mode & Mode.VM86) != 0:
        check_bitmap(env, port, size)
    elif (env.mode & Mode.PROTECTED) != 0:
        iopl: u32 = (env.eflags >> 12) & 3
        if env.cpl > iopl:
            check_bitmap(env, port, size)
    if unlikely(env.port_mask != 0):
        trap_port(env, port, size)


@native
def in_port(env: Env, port: u32, size: u32) -> u32:
    """IN of 1, 2 or 4 bytes."""
    check_io(env, port, size)
    value: u64 = call_host(ptr(env.host[Host.READ_PORT]), "u64", port, size)
    return u32(value)


@native
def out_port(env: Env, port: u32, size: u32, value: u32) -> None:
    """OUT of 1, 2 or 4 bytes."""
    check_io(env, port, size)
    call_host(ptr(env.host[Host.WRITE_PORT]), "void", port, size, u64(value))


# A port write may want the guest to stop (reset, debug exit): the block ends so that it does.
rows("""
e4  IN   AL,Ib
e5  IN   rAX,Ib
ec  IN   AL,DX
ed  IN   rAX,DX
e6  OUT  Ib,AL    end
e7  OUT  Ib,rAX   end
ee  OUT  DX,AL    end
ef  OUT  DX,rAX   end
""")


def _port(port: Value) -> Value:
    """An immediate port is a byte; DX holds all 16 bits."""
    return port.resize(Type.I32)


def _size(t: Translator, value_bits: int) -> Value:
    """Bytes transferred: REX.W does not make them 8."""
    return t.const(min(value_bits, 32) // 8, 32)


@lower("IN", dst="raw")
def in_(t: Translator, dst: Operand, port: Operand) -> None:
    """IN: DEST := port (SDM vol. 2A)."""
    value = t.call(in_port, t.env, _port(t.read(port)), _size(t, dst.bits))
    assert value is not None
    t.write(dst, value.resize(dst.type))


@lower("OUT", dst="raw")
def out(t: Translator, port: Operand, src: Operand) -> None:
    """OUT: port := SRC (SDM vol. 2B)."""
    value = t.read(src).resize(Type.I32)
    t.call(out_port, t.env, _port(t.read(port)), _size(t, src.bits), value)
