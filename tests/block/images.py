"""Making and judging images in tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytcg.block.create import create_image, new_values
from pytcg.block.device import BlockDevice
from pytcg.block.open import open_image

QEMU_IMG = shutil.which("qemu-img")
QEMU_IO = shutil.which("qemu-io")
needs_qemu = pytest.mark.skipif(QEMU_IMG is None or QEMU_IO is None,
                                reason="qemu-img and qemu-io are not installed")

# Option sets that between them turn on every feature of qcow2.
QCOW2_OPTIONS = [
    "",
    "compat=0.10",
    "compat=0.10,cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=1k,refcount_bits=1",
    "cluster_size=4k,refcount_bits=2",
    "cluster_size=2M,refcount_bits=4",
    "refcount_bits=8,compression_type=zstd",
    "refcount_bits=32,lazy_refcounts=on",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k,refcount_bits=64",
    "extended_l2=on,cluster_size=2M,compression_type=zstd",
]


def make(path: Path, size: int, options: str = "", driver: str = "qcow2") -> None:
    """Create an image with ``-o`` options."""
    values = new_values(driver, str(path))
    values.parse(options)
    values.set("size", str(size))
    create_image(str(path), driver, values)


def make_open(path: Path, size: int, options: str = "", driver: str = "qcow2") -> BlockDevice:
    """Create and open an image."""
    make(path, size, options, driver)
    return open_image(str(path), format=driver)


def run(*argv: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                          timeout=60, cwd=cwd)


def assert_clean(path: Path) -> None:
    """qemu-img check finds nothing."""
    done = run("qemu-img", "check", path)
    assert done.returncode == 0 and "No errors" in done.stdout, done.stdout + done.stderr


def assert_same_content(path: Path, driver: str, model: bytes) -> None:
    """QEMU reads from the image what the model says."""
    raw = path.with_suffix(".model")
    raw.write_bytes(model)
    done = run("qemu-img", "compare", "-f", "raw", "-F", driver, raw, path)
    assert done.returncode == 0, done.stdout + done.stderr
