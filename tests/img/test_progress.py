"""What is said while a command works, and what keeps it from starting."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pytcg.block.open import open_image
from pytcg.cli.img.common import Progress

from .conftest import needs_qemu, pytcg_img, qemu_img, qemu_io


@needs_qemu
def test_convert_counts_data_as_qemu_does(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "a.q", "128M", cwd=tmp_path)
    qemu_io("a.q", "write 0 1M", "write 2M 1M", "write 4M 1M", "write 32M 1M", cwd=tmp_path)
    line = ("convert", "-p", "-O", "qcow2", "a.q", "b.q")
    ours = pytcg_img(*line, cwd=tmp_path)
    shown = ours.out.replace("\r\n", "\n").replace("\r", "\n")
    assert shown == qemu_img(*line, cwd=tmp_path).out
    assert "(25.00/100%)" in ours.out and ours.code == 0


def test_a_signal_asks_for_progress_once(capsys: pytest.CaptureFixture[str]) -> None:
    old = signal.getsignal(signal.SIGUSR1)
    try:
        with Progress(enabled=False) as progress:
            progress(10, 100)
            os.kill(os.getpid(), signal.SIGUSR1)
            progress(20, 100)
            progress(30, 100)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert capsys.readouterr() == ("", "    (20.00/100%)\n")


def test_create_spares_an_image_that_is_open_for_writing(tmp_path: Path) -> None:
    line = ("create", "-q", "-f", "qcow2", "a.q", "1M")
    assert pytcg_img(*line, cwd=tmp_path).code == 0
    before = (tmp_path / "a.q").read_bytes()
    with open_image(str(tmp_path / "a.q")):
        ran = pytcg_img(*line, cwd=tmp_path)
        assert ran.code == 1 and "Is another process using the image" in ran.err
        assert (tmp_path / "a.q").read_bytes() == before


def test_hints_for_the_filesystem_do_no_harm(tmp_path: Path) -> None:
    ran = pytcg_img("create", "-f", "qcow2", "-o", "nocow=on,extent_size_hint=1M", "a.q", "1M",
                    cwd=tmp_path)
    assert ran.code == 0 and ran.out.endswith("nocow=on extent_size_hint=1048576\n")
    assert pytcg_img("check", "a.q", cwd=tmp_path).code == 0


def test_encryption_is_refused_clearly(tmp_path: Path) -> None:
    for option in ("encryption=on", "encrypt.format=luks", "encrypt.key-secret=sec0"):
        ran = pytcg_img("create", "-q", "-f", "qcow2", "-o", option, "a.q", "1M", cwd=tmp_path)
        assert (ran.code, ran.err) == (1, "pytcg-img: a.q: Encryption is not supported\n")
