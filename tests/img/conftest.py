"""Running pytcg-img and qemu-img side by side."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pytcg.cli.img import main as img

QEMU_IMG = shutil.which("qemu-img")
QEMU_IO = shutil.which("qemu-io")


class Ran(NamedTuple):
    """What a program did."""

    code: int
    out: str
    err: str


def pytcg_img(*argv: str, cwd: Path) -> Ran:
    """Run pytcg-img in this process."""
    out, err = io.StringIO(), io.StringIO()
    old_argv, old_cwd = sys.argv, os.getcwd()
    sys.argv = ["pytcg-img", *argv]
    os.chdir(cwd)
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            img.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = old_argv
        os.chdir(old_cwd)
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), err.getvalue())


def qemu_img(*argv: str, cwd: Path) -> Ran:
    """Run the real one."""
    assert QEMU_IMG is not None
    done = subprocess.run([QEMU_IMG, *argv], cwd=cwd, capture_output=True, text=True, timeout=60)
    return Ran(done.returncode, done.stdout, done.stderr)


def qemu_io(image: str, *commands: str, cwd: Path, options: tuple[str, ...] = ()) -> str:
    """Run qemu-io commands on an image; its output. They must succeed."""
    assert QEMU_IO is not None
    argv = [QEMU_IO, *options]
    for command in commands:
        argv += ["-c", command]
    done = subprocess.run([*argv, image], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "failed" not in done.stdout, done
    return done.stdout


needs_qemu = pytest.mark.skipif(QEMU_IMG is None or QEMU_IO is None,
                                reason="qemu-img and qemu-io are not installed")
