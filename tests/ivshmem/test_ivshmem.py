"""Shared memory and doorbells: our server and client, machines of ours and of QEMU's."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chardev.listening import listens
from cli.test_system import SOURCES, program
from pytcg.ivshmem.peers import Peers
from pytcg.ivshmem.protocol import IvshmemError
from x86.assemble import assemble
from x86.kvm_differences import KVM

SECONDS = 60
SIZE = 1 << 20
RUN = "from pytcg.cli.ivshmem.{} import main; raise SystemExit(main())"

# Big real mode; the card in slot 4: BARs, MSI-X entry 0; greets peer 0, then does so at each
# interrupt: its id goes to the memory, then the doorbell.
PROGRAM = """
    cli
    xor ax, ax
    mov ss, ax
    mov es, ax
    mov sp, 0x7000
    lgdt cs:[0x320]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov ax, 8
    mov fs, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    mov word ptr es:[0x104], 0x200
    mov word ptr es:[0x106], 0xf000
    mov si, 0x340
pci:
    mov eax, cs:[si]
    test eax, eax
    jz ready
    mov dx, 0xcf8
    out dx, eax
    mov eax, cs:[si + 4]
    mov dx, 0xcfc
    out dx, eax
    add si, 8
    jmp pci
ready:
    mov edi, 0xfee00000
    mov dword ptr fs:[edi + 0xf0], 0x1ff
    mov edi, 0xfe001000
    mov dword ptr fs:[edi], 0xfee00000
    mov dword ptr fs:[edi + 4], 0
    mov dword ptr fs:[edi + 8], 0x41
    mov dword ptr fs:[edi + 12], 0
    mov edi, 0xfe000000
    mov ebx, fs:[edi + 8]
    mov esi, 0xe0000000
    mov dword ptr fs:[esi + 4 * ebx], 0x600d
    mov dword ptr fs:[edi + 12], 0
wait:
    sti
    hlt
    jmp wait
.org 0x200
    inc dword ptr fs:[esi + 4 * ebx]
    mov dword ptr fs:[edi + 12], 0
    mov ebp, 0xfee00000
    mov dword ptr fs:[ebp + 0xb0], 0
    iret
.org 0x310
    .quad 0
    .quad 0x00cf93000000ffff
    .word 15
    .long 0xf0310
.org 0x340
    .long 0x80002010, 0xfe000000
    .long 0x80002014, 0xfe001000
    .long 0x80002018, 0xe0000000
    .long 0x8000201c, 0
    .long 0x80002004, 6
    .long 0x80002040, 0x80000000
    .long 0
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    made = subprocess.Popen(
        [sys.executable, "-c", RUN.format("server"),
         "-F", "-v", "-S", str(path), "-m", str(tmp_path), "-l", "1M", "-n", "2"],
        env={**os.environ, "PYTHONPATH": SOURCES}, stdout=subprocess.DEVNULL)  # fmt: skip
    until(lambda: listens(path))
    yield path
    made.terminate()
    assert made.wait(SECONDS) == 0
    assert not path.exists()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def connect(path: Path) -> Peers:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    peers = Peers(connection)
    peers.greet()
    connection.setblocking(False)
    return peers


def drain(peers: Peers) -> None:
    while peers.take():
        pass


def rung(peers: Peers, vector: int = 0) -> bool:
    try:
        return os.eventfd_read(peers.own[vector]) > 0
    except BlockingIOError:
        return False


def test_peers_meet_ring_and_part(server: Path) -> None:
    first, second = connect(server), connect(server)
    until(lambda: drain(first) or len(first.others.get(1, ())) == 2)
    until(lambda: drain(second) or (len(second.own), len(second.others.get(0, ()))) == (2, 2))
    assert (first.id, second.id, os.fstat(second.memory).st_size) == (0, 1, SIZE)
    assert second.ring(0, 1) and not second.ring(0, 2) and not second.ring(7, 0)
    until(lambda: drain(first) or len(first.own) == 2)
    assert rung(first, 1) and not rung(first, 0)
    second.close()
    until(lambda: drain(first) or not first.others)
    third = connect(server)
    assert third.id == 2
    third.socket.send(b"junk")  # a peer has nothing to say: it is shown out
    with pytest.raises(IvshmemError):
        until(lambda: third.take() and False)
    third.close()
    first.close()


def test_the_client_answers(server: Path) -> None:
    other = connect(server)
    client = subprocess.Popen(
        [sys.executable, "-c", RUN.format("client"),
         "-S", str(server)], env={**os.environ, "PYTHONPATH": SOURCES}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    until(lambda: drain(other) or len(other.others.get(1, ())) == 2)
    until(lambda: drain(other) or len(other.own) == 2)
    assert other.ring(1, 1)
    assert client.stdin is not None and client.stdout is not None
    seen = client.stdout.readline()
    assert seen == "cmd> receive notification from peer_id=1 vector=1\n"
    out, _ = client.communicate("int 0 1\nint 5 0\ndump\n", SECONDS)
    assert "cannot find peer_id = 5" in out and "peer_id: 0\n  vector 0 is enabled" in out
    assert rung(other, 1)
    other.close()


OURS = [sys.executable, "-m", "pytcg.cli.system"]
QEMU = shutil.which("qemu-system-x86_64")


def write_rom(path: Path) -> None:
    image = bytearray(b"\xf4" * 0x10000)
    code = assemble(PROGRAM, 16)
    image[: len(code)] = code
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"
    path.write_bytes(image)


@pytest.mark.parametrize("accel", ["tcg", KVM])
def test_a_plain_card_shows_a_file(accel: str, tmp_path: Path) -> None:
    write_rom(tmp_path / "rom")
    shared = tmp_path / "shared"
    guest = subprocess.Popen(
        [*OURS, "-accel", accel, "-bios", str(tmp_path / "rom"), "-display", "none", "-vga", "none",
         "-serial", "null", "-device", "ivshmem-plain,memdev=m,addr=4",
         "-object", f"memory-backend-file,id=m,mem-path={shared},size=1M,share=on"],
        env={**os.environ, "PYTHONPATH": SOURCES}, stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        until(lambda: shared.exists() and shared.read_bytes()[:2] == b"\x0d\x60")
        assert shared.stat().st_size == SIZE
    finally:
        guest.kill()
        guest.wait()


@pytest.mark.parametrize(("options", "complaint"), [
    ("-device ivshmem-plain", "-device ivshmem-plain: You must specify a 'memdev'"),
    ("-device ivshmem-plain,memdev=x",
     "-device ivshmem-plain: Device 'x' not found"),
    ("-object memory-backend-memfd,id=x,size=5000 -device ivshmem-plain,memdev=x",
     "-device ivshmem-plain: BAR 2: 0x1388 bytes are no power of two from 16 on"),
    ("-object memory-backend-file,id=x,size=1M", "-object memory-backend-file,id=x,size=1M:"
     " Parameter 'mem-path' is missing"),
    ("-object nix,id=x", "-object nix,id=x: Parameter 'qom-type' does not accept value 'nix'"),
])  # fmt: skip
def test_what_is_wrong_is_said(options: str, complaint: str) -> None:
    result = program(*options.split(), "-display", "none", "-serial", "null")
    assert (result.returncode, result.stderr) == (1, f"pytcg-system-x86_64: {complaint}\n")


@pytest.mark.parametrize("emulators", [
    (OURS, OURS),
    pytest.param((OURS, [QEMU]), marks=pytest.mark.skipif(not QEMU, reason="needs QEMU")),
])  # fmt: skip
def test_two_machines_share_memory_and_ring(emulators: tuple[list[str], list[str]], server: Path,
                                            tmp_path: Path) -> None:  # fmt: skip
    write_rom(tmp_path / "rom")
    host = connect(server)
    until(lambda: drain(host) or len(host.own) == 2)
    memory = mmap.mmap(host.memory, SIZE)
    guests = [subprocess.Popen(
        [*emulator, "-accel", "tcg", "-bios", str(tmp_path / "rom"), "-display", "none", "-vga",
         "none", "-serial", "null", "-net", "none", "-chardev", f"socket,path={server},id=bell",
         "-device", "ivshmem-doorbell,chardev=bell,vectors=2,addr=4"],
        env={**os.environ, "PYTHONPATH": SOURCES}, stdin=subprocess.DEVNULL)
        for emulator in emulators]  # fmt: skip
    try:
        for _ in guests:
            until(lambda: drain(host) or memory[4:6] == memory[8:10] == b"\x0d\x60")
        until(lambda: drain(host) or len(host.others.get(2, ())) == 2)
        assert rung(host)
        for number in (1, 2):
            assert host.ring(number, 0)
            until(lambda number=number: memory[4 * number : 4 * number + 2] == b"\x0e\x60")
            until(lambda: rung(host))
    finally:
        for guest in guests:
            guest.kill()
            guest.wait()
    until(lambda: drain(host) or not host.others)
    memory.close()
    host.close()
