"""Packs of stencils are made from forms in a compiler process."""

from __future__ import annotations

import contextlib
import struct

from pytcg.exec import stencils, stitch
from pytcg.exec.layout import PATCH, RECORD, STENCIL, TB
from pytcg.ir.blocks import Function
from pytcg.ir.layout import Scalar
from pytcg_llvm.stencil import Patch, Stencil, compile_stencils
from pytcg_native.compiler import Program
from pytcg_threaded.packs import STENCIL_ROW

_PATCH = struct.Struct("<HBBIq")
assert _PATCH.size == PATCH.size
_TARGETS = {target.name.lower(): target for target in stitch.Target}
_FLAGS = {"imm": stitch.StencilFlag.IMM, "disp": stitch.StencilFlag.DISP,
          "next": stitch.StencilFlag.FALLS, "taken": stitch.StencilFlag.TAKEN,
          "fall": stitch.StencilFlag.FALL}  # fmt: skip
_OTHERS = {stitch.HEAD_KEY: stencils.stencil_head, stitch.HOP_KEY: stencils.stencil_hop}
_NONE = Stencil(b"", (), frozenset())


def compile_pack(program: Program, keys: list[int]) -> bytes:
    """The stencils of forms."""
    from pytcg_x86.core.stencil import NoStencil

    functions: dict[int, Function] = {}
    for key in keys:
        with contextlib.suppress(NoStencil):
            functions[key] = _function(program, key)
    made = compile_stencils(functions.values()) if functions else {}
    for function in functions.values():
        assert function.name != stencils.stencil_head.name or _begins_plain(made[function.name])
    names = {key: function.name for key, function in functions.items()}
    return b"".join(_packed(key, made.get(names.get(key, ""), _NONE)) for key in keys)


def _begins_plain(head: Stencil) -> bool:
    return min(patch.place for patch in head.patches) >= 4


def _function(program: Program, key: int) -> Function:
    """IR of a form's stencil, or of one that no form has; NoStencil."""
    from pytcg_x86.core.stencil import build_stencil

    if key not in _OTHERS:
        return build_stencil(program, key)
    program.add([_OTHERS[key]])
    return program.compile(_OTHERS[key])


def _packed(key: int, stencil: Stencil) -> bytes:
    if len(stencil.code) > stitch.LONGEST:
        stencil = _NONE
    flags = int(sum(_FLAGS[hole] for hole in stencil.holes & _FLAGS.keys()))
    patches = b"".join(map(_packed_patch, stencil.patches))
    code = stencil.code.ljust(-(-len(stencil.code) // 16) * 16, b"\xcc")
    length = STENCIL.size + len(patches) + len(code)
    row = STENCIL_ROW.pack(key, len(stencil.code), len(stencil.patches), flags, length)
    return row + patches + code


def _packed_patch(patch: Patch) -> bytes:
    if patch.width == 0:
        return _PATCH.pack(patch.place, 0, _TARGETS[patch.hole], 32, patch.addend)
    name = {"low": "imm", "far": "disp", "near_a": "a", "near_b": "b"}.get(patch.hole, patch.hole)
    field = TB.fields[name] if name in ("insns", "count") else RECORD.fields[name]
    assert isinstance(field.type, Scalar)
    return _PATCH.pack(patch.place, patch.width, field.offset, field.type.bits, patch.addend)
