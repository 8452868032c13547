"""Assembly text to machine code, by LLVM's assembler, in Intel syntax.

LLVM ends its process when it meets bad assembly, so it works in one of its own
(``python -m pytcg.library.assembler``): hex of the text in, hex of an ELF object out, a line each.
"""

from __future__ import annotations

import atexit
import functools
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from threading import Lock

from pytcg.errors import AssemblyError

_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_RELOCATION = struct.Struct("<QQq")  # Elf64_Rela
# Relocation types (System V ABI for x86-64, table 4.9): size in bytes, relative to the place?
_TYPES = {1: (8, False), 2: (4, True), 4: (4, True), 10: (4, False), 11: (4, False),
          12: (2, False), 13: (2, True), 14: (1, False), 15: (1, True), 24: (8, True)}  # fmt: skip

_lock = Lock()
_worker: list[subprocess.Popen[bytes]] = []


@functools.lru_cache(maxsize=4096)
def assemble(text: str, bits: int = 64, address: int = 0,
             symbols: tuple[tuple[str, int], ...] = ()) -> bytes:  # fmt: skip
    """Machine code of ``text`` for ``address``; statements are parted by ``;`` or newlines.

    ``symbols`` are names with addresses that the text may use. AssemblyError.
    """
    lines = [f".code{bits}", *text.replace(";", "\n").split("\n")]
    return _Object(_ask("\n".join(lines))).link(address, dict(symbols))


def _ask(text: str) -> bytes:
    """The object of a text, from the worker."""
    with _lock:
        process = _worker[0] if _worker else _start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(text.encode().hex().encode() + b"\n")
            process.stdin.flush()
        except OSError:
            pass  # it has ended: what it said is below
        answer = process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise AssemblyError(_last_words(process))
    return bytes.fromhex(answer.decode())


def _start() -> subprocess.Popen[bytes]:
    roots = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": roots},
        process_group=0)  # fmt: skip
    _worker.append(process)
    return process


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """LLVM's message and the line it is about."""
    _worker.clear()
    _, errors = process.communicate()
    lines = errors.decode(errors="replace").splitlines()
    for number, line in enumerate(lines):
        _, found, message = line.partition("error: ")
        if found:
            message = message.split(": ", 1)[-1] if message.startswith("<") else message
            about = lines[number + 1].strip() if number + 1 < len(lines) else ""
            return f"{message}: {about}" if about else message
    return "the assembler ended"


@atexit.register
def _stop() -> None:
    for process in _worker:
        process.kill()


class _Object:
    """An ELF64 object file with one section of code."""

    def __init__(self, image: bytes):
        self._image = image
        start, = struct.unpack_from("<Q", image, 0x28)
        count, names = struct.unpack_from("<HH", image, 0x3C)
        self._sections = [_SECTION.unpack_from(image, start + n * _SECTION.size)
                          for n in range(count)]  # fmt: skip
        self._names = self._sections[names][4]
        self._text = next(n for n in range(count) if self._name(n) == ".text")

    def _name(self, section: int) -> str:
        return self._string(self._names + self._sections[section][0])

    def _string(self, at: int) -> str:
        return self._image[at : self._image.index(0, at)].decode()

    def link(self, address: int, symbols: Mapping[str, int]) -> bytes:
        """The code, relocated; AssemblyError for names that are not there."""
        offset, size = self._sections[self._text][4:6]
        code = bytearray(self._image[offset : offset + size])
        for section in self._sections:
            if section[1] == 4 and section[7] == self._text:  # SHT_RELA of the code
                for at in range(section[4], section[4] + section[5], _RELOCATION.size):
                    self._relocate(code, address, at, self._sections[section[6]], symbols)
        return bytes(code)

    def _relocate(self, code: bytearray, address: int, at: int, table: tuple[int, ...],
                  symbols: Mapping[str, int]) -> None:  # fmt: skip
        place, info, addend = _RELOCATION.unpack_from(self._image, at)
        name, _, _, section, value, _ = _SYMBOL.unpack_from(
            self._image, table[4] + (info >> 32) * _SYMBOL.size)  # fmt: skip
        if section == self._text:
            value += address
        elif info >> 32 and section == 0:
            text = self._string(self._sections[table[6]][4] + name)
            if text not in symbols:
                raise AssemblyError(f"no symbol {text!r}")
            value = symbols[text]
        if info & 0xFFFF_FFFF not in _TYPES:
            raise AssemblyError(f"a reference of a kind (relocation {info & 0xFFFF_FFFF}) that "
                                f"there is not")  # fmt: skip
        size, relative = _TYPES[info & 0xFFFF_FFFF]
        number = value + addend - (address + place if relative else 0)
        if size < 8 and not -(1 << (8 * size - 1)) <= number < 1 << 8 * size:
            raise AssemblyError(f"{value:#x} is too far from {address + place:#x}")
        code[place : place + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")


def serve() -> None:
    """The worker: until stdin ends, or LLVM ends the process."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine()
    for line in sys.stdin:
        text = bytes.fromhex(line).decode()
        head = [".text", ".intel_syntax noprefix"]
        module = "\n".join(f'module asm "{_quoted(each.strip())}"' for each in
                           [*head, *text.split("\n")])  # fmt: skip
        print(bytes(machine.emit_object(llvm.parse_assembly(module))).hex(), flush=True)


def _quoted(line: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() and c not in '"\\' else
                   "".join(f"\\{byte:02X}" for byte in c.encode()) for c in line)  # fmt: skip


if __name__ == "__main__":
    serve()
