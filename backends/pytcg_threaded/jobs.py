"""What there is to compile, in pieces that a worker process can take: names in, code out.

A job is a list of words: ``core N M`` is the N-th of M shares of the native helpers, the result
an `Image`; ``forms`` followed by keys in hex is a batch of handlers, for a `HandlerPack`; the
result of ``stencils`` and keys is a pack of stencils.
"""

from __future__ import annotations

from functools import cache

from pytcg.ir.blocks import Function
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_guest_code, compile_module
from pytcg_llvm.link import Image
from pytcg_native.compiler import Program
from pytcg_threaded.packs import HandlerPack
from pytcg_threaded.stencils import compile_pack


@cache
def program() -> Program:
    """The native program of the x86 guest: everything reachable from its roots."""
    from pytcg_x86.core.guest import native_roots

    made = Program()
    made.add(native_roots())
    return made


@cache
def core_names() -> list[str]:
    """Symbols of the native helpers, in a fixed order."""
    return sorted(n for n, fn in program().natives.items() if not fn.inline and not fn.extern)


def _share(number: int, shares: int) -> list[Function]:
    names = core_names()[number::shares]
    return [program().compile(program().natives[name]) for name in names]


def job_text(words: list[str]) -> str:
    """LLVM text of a job."""
    if words[0] == "core":
        number, shares = int(words[1]), int(words[2])
        tables = program().tables.values() if number == 0 else ()
        return emit_module(_share(number, shares), [(t.name, t.data()) for t in tables])
    return _forms(words[1:])[0]


def _forms(words: list[str]) -> tuple[str, dict[int, int]]:
    """LLVM text of a batch of forms, and the effects of each."""
    from pytcg_x86.core.form import build_form

    built = {key: build_form(program(), key) for key in (int(word, 16) for word in words)}
    effects = {key: effects.word() for key, (_, effects) in built.items()}
    return emit_module(function for function, _ in built.values()), effects


def run_job(words: list[str]) -> bytes:
    """Compile a job in this process."""
    if words[0] == "core":
        return Image.of(compile_module(job_text(words))).to_bytes()
    if words[0] == "stencils":
        return compile_pack(program(), [int(key, 16) for key in words[1:]])
    text, effects = _forms(words[1:])
    return HandlerPack(effects, Image.of(compile_guest_code(text))).to_bytes()
