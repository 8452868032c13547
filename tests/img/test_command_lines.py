"""Wrong and extreme command lines: one message and an exit code, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import pytcg_img

LINES = """
    resize a.q +
    resize a.q 99E
    resize r.img 7E
    create -f qcow2 x 99999999999999999999
    create -f qcow2 x 7E
    create -f vdi x 7E
    create -f vmdk x 7E
    create -f vpc x 7E
    create -f qcow2 dir 1M
    create -f qcow2 -o data_file=dir x 1M
    map dir
    info dir
    convert a.q dir
    convert -O qcow2 a.q a.q/x
    convert -S 1 a.q x
    convert -m 99 a.q x
    convert -l x r.img y
    convert -B nope -F qcow2 -O qcow2 a.q z
    convert --target-image-opts -n a.q driver=qcow2
    compare a.q dir
    snapshot -c x r.img
    commit r.img
    rebase -b x -F raw r.img
    measure -O qcow2 --size 7E
    measure -O nope --size 1
    dd if=a.q of=dir
    bench -c x a.q
    bench -s 2M a.q
    amend -o compat=9 a.q
    amend -o refcount_bits=65 a.q
    bitmap --add -g 3 a.q b
    bitmap --add -g 4E a.q b
    bitmap --merge x a.q b
    info --image-opts driver=
    info nbd+unix:///?socket=/nonexistent
    info -f vmdk r.img
"""


@pytest.mark.parametrize("line", [line.strip() for line in LINES.strip().splitlines()])
def test_wrong_command_line(line: str, tmp_path: Path) -> None:
    assert pytcg_img("create", "-q", "-f", "qcow2", "a.q", "1M", cwd=tmp_path).code == 0
    assert pytcg_img("create", "-q", "r.img", "1M", cwd=tmp_path).code == 0
    (tmp_path / "dir").mkdir()
    ran = pytcg_img(*line.split(), cwd=tmp_path)
    assert ran.code in (1, 2)
    assert "\npytcg-img: " in "\n" + ran.err and "Traceback" not in ran.err


def test_help_and_version(tmp_path: Path) -> None:
    ran = pytcg_img("--help", cwd=tmp_path)
    assert ran.code == 0 and "convert" in ran.out and "Supported formats:" in ran.out
    assert pytcg_img("--version", cwd=tmp_path).out.startswith("pytcg-img version ")
    assert pytcg_img("convert", "--help", cwd=tmp_path).code == 0
    assert "cluster_size=<size>" in pytcg_img("create", "-f", "qcow2", "-o", "help",
                                              cwd=tmp_path).out


def test_a_reader_that_goes_away_is_no_error_message(tmp_path: Path) -> None:
    src = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        f"{sys.executable} -m pytcg.cli.img --help | head -c 1", shell=True, cwd=tmp_path,
        capture_output=True, text=True, env={"PYTHONPATH": str(src), "PATH": "/usr/bin:/bin"})
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", ["img", "io", "nbd"])
def test_a_link_to_a_program_names_it(tool: str, tmp_path: Path) -> None:
    (tmp_path / f"pytcg-{tool}").write_text(
        f"import sys\nfrom pytcg.cli.{tool}.main import main\nsys.exit(main())\n"
    )
    (tmp_path / f"qemu-{tool}").symlink_to(f"pytcg-{tool}")
    for name in (f"qemu-{tool}", f"pytcg-{tool}"):
        run = subprocess.run([sys.executable, tmp_path / name, "--help"], capture_output=True,
                             text=True, check=False)
        assert f"usage: {name} " in run.stdout.lower()
