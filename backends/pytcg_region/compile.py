"""A request to host code: what a worker does for a region."""

from __future__ import annotations

from pytcg.ir.blocks import Function
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_guest_code
from pytcg_llvm.link import Image
from pytcg_region.kept import SEPARATOR, UNFIT, region_name
from pytcg_region.request import Request
from pytcg_threaded.jobs import program
from pytcg_x86.region.builder import NotInRegion
from pytcg_x86.region.compiler import RegionCompiler


def build_region(request: Request, name: str) -> tuple[Function, list[int]]:
    """IR of a region, and the numbers of the blocks it can be entered at; NotInRegion."""
    compiler = RegionCompiler(program(), name, request.blocks, spans=request.spans,
                              user=request.user, top=request.top)  # fmt: skip
    function = compiler.build()
    return function, [block.number for block in compiler.entries]


def compile_region(data: bytes, key: str) -> bytes:
    """What is kept of a region (`kept`)."""
    try:
        function, entries = build_region(Request(data), region_name(key))
    except NotInRegion:
        return UNFIT
    directory = " ".join(map(str, entries)).encode()
    image = Image.of(compile_guest_code(emit_module([function])))
    return directory + SEPARATOR + image.to_bytes()
