"""Compiler processes: one that starts from other sources than its parent did compiles nothing."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from pytcg_threaded import worker
from pytcg_threaded.worker import StaleSources, WorkerError, WorkerProcess


@pytest.mark.parametrize("module", ["pytcg_threaded.worker", "pytcg_region.worker"])
def test_other_sources_are_refused(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "source_identity", lambda: "of another version")
    with (contextlib.closing(WorkerProcess(module)) as process,
          pytest.raises(StaleSources, match="pytcg was changed while it ran; start it again")):
        process.ask(["forms", "0"])


def test_a_job_that_is_none_is_an_error() -> None:
    with contextlib.closing(WorkerProcess()) as process, pytest.raises(WorkerError):
        process.ask(["forms", "no number"])


def test_none_outlives_who_asked() -> None:
    """Else whoever reads the emulator's standard error would wait for a job's end."""
    code = ("import os, signal\nfrom pytcg_threaded.worker import WorkerProcess\n"
            "os.kill(WorkerProcess()._process.pid, signal.SIGSTOP)\n")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
