"""`-d` and `-D` on the command line: a guest of a few instructions, its log in a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli.test_system import bzimage, program
from pytcg.engines import cpu_models, make_vcpu
from pytcg.log import Log
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow
from x86.assemble import assemble
from x86.fake_bus import FakeBus

ENTRY_64 = 0x200  # of the protected-mode code (boot protocol, "64-bit boot protocol")
SETUP = 3 * 512  # bytes before it


def guest(path: Path, text: str) -> Path:
    """A "kernel" that is just this code, entered in 64-bit mode."""
    image = bytearray(bzimage(path).read_bytes())
    code = assemble(text)
    image[SETUP + ENTRY_64 : SETUP + ENTRY_64 + len(code)] = code
    path.write_bytes(image)
    return path


def run(kernel: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a guest that ends by the debug exit device."""
    return program("-kernel", str(kernel), "-m", "128", "-nographic", "-no-reboot", "-device",
                   "isa-debug-exit,iobase=0xf4,iosize=4", *arguments)  # fmt: skip


EXIT = "mov eax, 0x10; out 0xf4, eax; 1: hlt; jmp 1b"


def test_log_goes_to_the_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kernel = guest(tmp_path / "kernel", "mov ebx, 0x1234567; " + EXIT)
    result = run(kernel, "-d", "in_asm,exec,int", "-D", str(log))
    assert (result.returncode, result.stderr) == (33, "")
    text = log.read_text()
    assert text.startswith("----------------\nIN: \n0x")
    assert "movl     $0x1234567, %ebx" in text
    assert "Trace 0: 0x" in text


def test_log_goes_to_stderr(tmp_path: Path) -> None:
    result = run(guest(tmp_path / "kernel", "ud2"), "-d", "int")
    assert result.returncode == 0  # a triple fault with -no-reboot
    assert "check_exception old: 0xffffffff new 0x6\n" in result.stderr
    assert "check_exception old: 0x8 new 0x" in result.stderr
    assert "IN:" not in result.stderr and "Traceback" not in result.stderr


def test_a_log_file_that_cannot_be_opened(tmp_path: Path) -> None:
    result = run(guest(tmp_path / "kernel", EXIT), "-d", "int", "-D", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "could not open log file" in result.stderr


def test_cpu_help_lists_the_models() -> None:
    result = program("-cpu", "help")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"\n  {name} " in result.stdout for name in cpu_models())


@pytest.mark.parametrize(("model", "message"), [
    ("pentium9", "no CPU model 'pentium9'"), ("max,+nonsense", "no CPU feature 'nonsense'"),
])  # fmt: skip
def test_an_unknown_cpu_is_a_value_error(model: str, message: str) -> None:
    memory = AddressMap(RamWindow(1 << 20))
    with pytest.raises(ValueError, match=message):
        make_vcpu(memory, FakeBus(), model=model, tier="threaded", log=Log())


def test_regions_are_shown_and_accounted_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kernel = guest(tmp_path / "kernel", "mov ecx, 1000; 1: dec ecx; jnz 1b; " + EXIT)
    result = run(kernel, "-accel", "tcg,tier=jit,tb-size=8", "-d", "op,op_opt,llvm,out_asm,stats",
                 "-D", str(log))  # fmt: skip
    assert (result.returncode, result.stderr) == (33, "")
    text = log.read_text()
    for title in ("OP", "LLVM", "LLVM after optimization", "OUT"):
        assert f"\n{title}: region " in text
    last = text.splitlines()[-4:]
    assert last[0].startswith("instructions ") and last[1].startswith("in regions ")
    assert " of instructions, entered " in last[1]
    assert last[2].startswith("left for ") and "branch " in last[2] and "wanted " in last[2]
    assert last[3].startswith("regions compiled ") and " code memory " in last[3]
