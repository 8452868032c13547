"""Guest code from assembly text (Intel syntax), by LLVM's assembler."""

from __future__ import annotations

import functools
import struct

import llvmlite.binding as llvm


@functools.cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    return target.create_target_machine()


@functools.cache
def assemble(text: str, bits: int = 64) -> bytes:
    """Machine code of ``text``; lines may be parted by ``;``. No symbol outside it may be named."""
    head = [".text", ".intel_syntax noprefix", f".code{bits}"]
    lines = [*head, *text.replace(";", "\n").split("\n")]
    quoted = "\n".join('module asm "' + line.strip().replace('"', '\\"') + '"' for line in lines)
    return _text_section(bytes(_machine().emit_object(llvm.parse_assembly(quoted))))


def _text_section(image: bytes) -> bytes:
    """The .text section of a 64-bit ELF object."""
    table, = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", image, table + i * size) for i in range(count)]
    strings = sections[names][4]
    for name, _, _, _, offset, length in sections:
        end = image.index(b"\0", strings + name)
        if image[strings + name : end] == b".text":
            return image[offset : offset + length]
    raise ValueError("no .text section")
