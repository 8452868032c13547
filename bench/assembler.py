"""Machine code from assembly text (Intel syntax) by LLVM's assembler: no binutils needed."""

from __future__ import annotations

import functools
import struct

import llvmlite.binding as llvm

_SECTION = "<IIQQQQ"  # name, type, flags, address, offset, size: the head of an Elf64_Shdr


@functools.cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    triple = "x86_64-unknown-linux-gnu"
    return llvm.Target.from_triple(triple).create_target_machine()


@functools.cache
def assemble(text: str) -> bytes:
    """The bytes of ``text``, one statement a line; it may name no symbol but its own.

    Begins in 64-bit code; ``.code16`` and ``.code32`` change that. Local labels need names
    (``.Lloop``): ``1b`` is a binary number in Intel syntax.
    """
    lines = [".text", ".intel_syntax noprefix", *(line.strip() for line in text.splitlines())]
    quoted = ('module asm "' + line.replace('"', '\\"') + '"' for line in lines)
    return _text_section(_machine().emit_object(llvm.parse_assembly("\n".join(quoted))))


def _text_section(image: bytes) -> bytes:
    """The contents of .text; ValueError if it holds something for a linker to do."""
    table, = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    rows = [struct.unpack_from(_SECTION, image, table + n * size) for n in range(count)]
    found = {}
    for name, _, _, _, offset, length in rows:
        start = rows[names][4] + name
        found[image[start : image.index(b"\0", start)]] = image[offset : offset + length]
    if b".rela.text" in found:
        raise ValueError("the text names a symbol that is not its own")
    return found[b".text"]
