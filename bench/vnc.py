"""`python -m bench.vnc`: frames a viewer sees of text that scrolls, and what an idle guest costs.

The guest is a BIOS of our own: it sets 1024 x 768 x 32 and scrolls text as fast as it can, or draws
a screen of it and halts; "idle text" is SeaBIOS without a disk to start, its cursor blinking. The
viewer takes ZRLE and copied rectangles. QEMU, if it is there, does the same in the same run.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bench import process
from bench.assembler import assemble
from bench.qemu import QemuTcg

WIDTH, HEIGHT, GLYPH = 1024, 768, 16
FRAME_BUFFER: Final = 0xE000_0000
STRIDE: Final = 4 * WIDTH
SIZE: Final = 1 << 16
CODE, GDT, FONT = 0x1000, 0x800, 0x2000
BASE: Final = 0xF0000
GLYPHS: Final = 64
WARM_UP, SECONDS = 3.0, 5.0
COPY_RECT, ZRLE = 1, 16
_DISPI: Final = ((4, 0), (1, WIDTH), (2, HEIGHT), (3, 32), (4, 0x41))
_START: Final = f"""
    .code32
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7000
    cld
    mov dx, 0xcf8
    mov eax, 0x80001010
    out dx, eax
    mov dx, 0xcfc
    mov eax, {FRAME_BUFFER}
    out dx, eax
    mov dx, 0xcf8
    mov eax, 0x80001004
    out dx, eax
    mov dx, 0xcfc
    mov eax, 3
    out dx, eax
    mov dx, 0x3da
    in al, dx
    mov dx, 0x3c0
    mov al, 0x20
    out dx, al
    mov ebp, 12345
"""
_ROW: Final = f"""
    mov esi, {FRAME_BUFFER + GLYPH * STRIDE}
    mov edi, {FRAME_BUFFER}
    mov ecx, {(HEIGHT - GLYPH) * WIDTH}
    rep movsd
    xor ebx, ebx
.Lpick:
    imul ebp, ebp, 1103515245
    add ebp, 12345
    mov eax, ebp
    shr eax, 20
    and eax, {GLYPHS - 1}
    shl eax, 4
    mov [ebx * 4 + 0x8000], eax
    inc ebx
    cmp ebx, {WIDTH // 8}
    jb .Lpick
    xor edx, edx
.Lline:
    xor ebx, ebx
.Lglyph:
    mov eax, [ebx * 4 + 0x8000]
    mov al, [eax + edx + {BASE + FONT}]
    mov ecx, 8
.Ldot:
    add al, al
    sbb esi, esi
    and esi, 0xaaaaaa
    mov [edi], esi
    add edi, 4
    dec ecx
    jnz .Ldot
    inc ebx
    cmp ebx, {WIDTH // 8}
    jb .Lglyph
    inc edx
    cmp edx, {GLYPH}
    jb .Lline
"""


def _font() -> bytes:
    """Glyphs of strokes, with room around."""
    rng = random.Random(1)
    strokes = (0x18, 0x3C, 0x66, 0x7E, 0x60, 0x06, 0x42)
    return b"".join(bytes(3) + bytes(rng.choice(strokes) for _ in range(9)) + bytes(4)
                    for _ in range(GLYPHS))  # fmt: skip


def bios(*, scroll: bool) -> bytes:
    """64 KiB that end below 4 GiB: real mode to flat 32-bit code, then text for ever or once."""
    dispi = "".join(f"mov dx, 0x1ce\nmov ax, {index}\nout dx, ax\nmov dx, 0x1cf\nmov ax, {value}\n"
                    "out dx, ax\n" for index, value in _DISPI)  # fmt: skip
    end = "jmp .Lagain" if scroll else (
        f"inc dword ptr [0x9000]\ncmp dword ptr [0x9000], {HEIGHT // GLYPH}\njb .Lagain\n"
        ".Lidle:\nhlt\njmp .Lidle")
    code = assemble(f"{_START}{dispi}mov dword ptr [0x9000], 0\n.Lagain:\n{_ROW}{end}\n")
    image = bytearray(SIZE)
    image[CODE : CODE + len(code)] = code
    image[FONT : FONT + GLYPHS * GLYPH] = _font()
    struct.pack_into("<QQQ", image, GDT, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    struct.pack_into("<HI", image, GDT + 0x20, 23, BASE + GDT)
    entry = (b"\xfa\x2e\x66\x0f\x01\x16" + struct.pack("<H", GDT + 0x20)      # cli; lgdt
             + b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"                            # cr0.pe
             + b"\x66\xea" + struct.pack("<IH", BASE + CODE, 8))              # ljmp
    image[0xF000 : 0xF000 + len(entry)] = entry
    image[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<h", 0xF000 - 0xFFF3)
    return bytes(image)


class Viewer:
    """Enough of RFC 6143 to take updates and throw them away."""

    def __init__(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.settimeout(process.TIMEOUT)
        self._socket, self._file = sock, sock.makefile("rb", 1 << 20)
        self._file.read(12)
        sock.sendall(b"RFB 003.008\n")
        self._file.read(self._file.read(1)[0])
        sock.sendall(b"\1")
        self._file.read(4)
        sock.sendall(b"\1")
        self.size = struct.unpack(">HH", self._file.read(4))
        self._file.read(16)
        self._file.read(struct.unpack(">I", self._file.read(4))[0])
        sock.sendall(struct.pack(">BxH3i", 2, 3, COPY_RECT, ZRLE, -223))

    def ask(self, *, incremental: bool = True) -> None:
        self._socket.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, *self.size))

    def take(self) -> int:
        """One update; its bytes."""
        total = 4
        count, = struct.unpack(">xxH", self._file.read(4))
        for _ in range(count):
            _, _, width, height, encoding = struct.unpack(">HHHHi", self._file.read(12))
            total += 12
            if encoding == -223:
                self.size = width, height
                continue
            length = 4
            if encoding == ZRLE:
                length, = struct.unpack(">I", self._file.read(4))
            elif encoding != COPY_RECT:
                length = width * height * 4
            total += length
            self._file.read(length)
        return total

    def look_on(self) -> None:
        """Take updates until the server goes."""
        with suppress(OSError, struct.error):
            while True:
                self.ask()
                self.take()


@contextmanager
def machine(command: Sequence[str], folder: Path, *options: str) -> Iterator[tuple[int, str]]:
    """A running machine: its process, the path of its VNC socket."""
    path = str(folder / "vnc")
    with subprocess.Popen([*command, "-m", "64", "-nodefaults", "-vga", "std", "-vnc",
                           f"unix:{path}", *options], env=process.environment(),
                          stdin=subprocess.DEVNULL) as running:  # fmt: skip
        try:
            end = time.monotonic() + process.TIMEOUT
            while not os.path.exists(path) and time.monotonic() < end:
                time.sleep(0.05)
            yield running.pid, path
        finally:
            running.terminate()


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def frames(viewer: Viewer) -> tuple[float, float]:
    """Updates a second, and KiB of each."""
    began, count, size = time.monotonic(), 0, 0
    while time.monotonic() - began < SECONDS:
        viewer.ask()
        size += viewer.take()
        count += 1
    return count / (time.monotonic() - began), size / count / 1024


def idle(pid: int) -> float:
    """Per cent of a core."""
    before = cpu_seconds(pid)
    time.sleep(SECONDS)
    return (cpu_seconds(pid) - before) / SECONDS * 100


def _wait_for_mode(viewer: Viewer) -> None:
    """Until the guest has set its mode."""
    end = time.monotonic() + process.TIMEOUT
    while viewer.size != (WIDTH, HEIGHT):
        assert time.monotonic() < end, "the guest sets no mode"
        viewer.ask()
        viewer.take()


def measure(name: str, command: Sequence[str], folder: Path) -> Iterator[str]:
    """The lines of one emulator."""
    image = folder / "bios"
    image.write_bytes(bios(scroll=True))
    with machine(command, folder, "-bios", str(image)) as (_, path):
        viewer = Viewer(path)
        _wait_for_mode(viewer)
        time.sleep(WARM_UP)
        rate, size = frames(viewer)
        yield f"{name:<8}scroll 1024x768   {rate:5.1f} frames/s, {size:.0f} KiB a frame"
    image.write_bytes(bios(scroll=False))
    with machine(command, folder, "-bios", str(image)) as (pid, path):
        time.sleep(WARM_UP)
        yield f"{name:<8}idle              {idle(pid):5.1f} % of a core"
        viewer = Viewer(path)
        _wait_for_mode(viewer)
        viewer.ask(incremental=False)
        viewer.take()
        viewer.ask()
        time.sleep(WARM_UP)
        yield f"{name:<8}idle, viewer      {idle(pid):5.1f} % of a core"
    with machine(command, folder) as (pid, path):
        time.sleep(2 * WARM_UP)
        yield f"{name:<8}idle text         {idle(pid):5.1f} % of a core"
        viewer = Viewer(path)
        threading.Thread(target=viewer.look_on, daemon=True).start()
        time.sleep(WARM_UP)
        yield f"{name:<8}idle text, viewer {idle(pid):5.1f} % of a core"


def main() -> int:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for line in measure("pytcg", process.OURS, Path(folder)):
            print(line, flush=True)
        if QemuTcg.available():
            for line in measure("qemu", process.QEMU, Path(folder)):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
