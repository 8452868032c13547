"""A few bytes of guest reset the machine or end it, each in its own way."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from boot.terminal import BOOT_SECONDS, SOURCES
from machine.test_kernels import elf32, multiboot_header, xen_note

LOAD_ADDRESS = 0x100000
COM1, DEBUG_EXIT, PM1_CNT = 0x3F8, 0xF4, 0x604
HALT = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp $-1


def out_byte(port: int, value: int) -> bytes:
    """mov dx, port; mov al, value; out dx, al."""
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def out_word(port: int, value: int) -> bytes:
    """mov dx, port; mov ax, value; out dx, ax."""
    return (
        b"\x66\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<H", value) + b"\x66\xef"
    )


def bzimage(path: Path, code: bytes) -> Path:
    """A bzImage that runs the code from its 32-bit entry on; first of all it prints a `!`."""
    payload = out_byte(COM1, ord("!")) + code + HALT
    payload += bytes(-len(payload) % 16)
    image = bytearray(1024)
    image[0x1F1] = 1  # setup_sects
    struct.pack_into("<L", image, 0x1F4, len(payload) // 16)  # syssize
    image[0x1FE:0x207] = b"\x55\xaa\xeb\x66HdrS\x0a"
    image[0x207] = 2  # version 2.10
    image[0x211] = 1  # LOADED_HIGH
    struct.pack_into("<L", image, 0x214, LOAD_ADDRESS)
    struct.pack_into("<LL", image, 0x22C, 0x7FFFFFFF, 0x1000)  # initrd_addr_max, alignment
    struct.pack_into("<L", image, 0x238, 255)  # cmdline_size
    struct.pack_into("<QL", image, 0x258, LOAD_ADDRESS, 0x10000)  # pref_address, init_size
    path.write_bytes(bytes(image) + payload)
    return path


def command(kernel: Path, *options: str) -> list[str]:
    """The emulator's command line, with a debug exit port."""
    debug_exit = f"isa-debug-exit,iobase={DEBUG_EXIT:#x},iosize=4"
    machine = ["-m", "16", "-serial", "stdio", "-device", debug_exit]
    program = [sys.executable, "-m", "pytcg.cli.system"]
    return [*program, *machine, "-kernel", str(kernel), *options]


ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCES}

RESETS = {
    "triple-fault": b"\x0f\x01\x1d" + bytes(4) + b"\x0f\x0b",  # lidt of zeroes at 0; ud2
    "port-cf9": out_byte(0xCF9, 2) + out_byte(0xCF9, 6),
    "i8042": out_byte(0x64, 0xFE),
    "port-92": out_byte(0x92, 1),
}


@pytest.mark.parametrize("name", RESETS)
def test_a_reset_ends_it_with_no_reboot(tmp_path: Path, name: str) -> None:
    kernel = bzimage(tmp_path / "kernel", RESETS[name])
    result = subprocess.run(
        command(kernel, "-no-reboot"),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_SECONDS,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"!", b"")


@pytest.mark.parametrize("name", RESETS)
def test_a_reset_starts_over(tmp_path: Path, name: str) -> None:
    kernel = bzimage(tmp_path / "kernel", RESETS[name])
    with subprocess.Popen(
        command(kernel), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"!!!!!"
        process.terminate()
        rest = process.stdout.read()
        assert set(rest) <= set(b"!")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (out_byte(DEBUG_EXIT, 0), 1),
        (out_byte(DEBUG_EXIT, 0x10), 0x21),
        (out_byte(DEBUG_EXIT, 0xFF), 0xFF),
        (out_word(PM1_CNT, 0x2000), 0),  # SLP_EN with the SLP_TYP of S5
    ],
)
def test_ends_and_their_statuses(tmp_path: Path, code: bytes, status: int) -> None:
    kernel = bzimage(tmp_path / "kernel", code)
    result = subprocess.run(
        command(kernel),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_SECONDS,
    )
    assert (result.returncode, result.stdout, result.stderr) == (status, b"!", b"")


@pytest.mark.parametrize("protocol", ["multiboot", "pvh"])
def test_an_elf_kernel_runs_and_ends(tmp_path: Path, protocol: str) -> None:
    """It prints `!` and leaves by the debug exit: 32-bit code at its entry."""
    code = out_byte(COM1, ord("!")) + out_byte(DEBUG_EXIT, 3) + HALT
    kernel = tmp_path / "kernel"
    header = multiboot_header()
    entry = LOAD_ADDRESS + len(header)
    if protocol == "multiboot":
        kernel.write_bytes(elf32(header + code, entry=entry))
    else:
        kernel.write_bytes(elf32(bytes(len(header)) + code, note=xen_note(entry)))
    result = subprocess.run(
        command(kernel),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_SECONDS,
    )
    assert (result.returncode, result.stdout, result.stderr) == (7, b"!", b"")
