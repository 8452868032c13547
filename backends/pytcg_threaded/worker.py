"""Compiler processes: ``python -m pytcg_threaded.worker`` takes jobs on stdin, gives objects.

A job is one line; the answer is a length in eight bytes and the object, or length 0 and a message
of the same shape. Workers are plain child processes, not multiprocessing's, so that a host program
is never imported again.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable

from pytcg_threaded.identity import source_identity


class WorkerError(Exception):
    """A compile job failed in its worker."""


class StaleSources(WorkerError):
    """pytcg's sources are others than this process was started from: their code would not fit."""


_STALE = 3
"""The exit status that says so."""

_COLLECT = 64
"""Jobs between two collections of garbage."""


def main(run_job: Callable[[list[str]], bytes]) -> None:
    """Serve jobs until stdin ends."""
    out = sys.stdout.buffer
    gc.disable()  # its passes took a third of the time; functions are cycles, so collect at times
    for number, line in enumerate(sys.stdin, 1):
        if number % _COLLECT == 0:
            gc.collect()
        try:
            answer = run_job(line.split())
            out.write(len(answer).to_bytes(8, "little") + answer)
        except Exception as error:  # the parent reports it
            text = f"{type(error).__name__}: {error}".encode()
            out.write(bytes(8) + len(text).to_bytes(8, "little") + text)
        out.flush()


def serve(run_job: Callable[[list[str]], bytes]) -> None:
    """`main`, silent when the emulator goes away with a job under way."""
    if sys.argv[1:] != [source_identity()]:
        os._exit(_STALE)
    try:
        main(run_job)
    except BrokenPipeError:
        os._exit(1)  # Python's own exit would try to flush once more


class WorkerProcess:
    """A compiler process and its pipes; ``module`` is run with -m.

    It leads a process group of its own: the terminal's Ctrl-C is for the emulator. It ends with the
    emulator, in the middle of a job too: whoever reads the emulator's standard error waits until
    the last process that has it is gone. Should the emulator be killed, the worker sees the end of
    its input. One that finds other sources than ours on disk ends at
    once: what it compiled would not fit.
    """

    def __init__(self, module: str = "pytcg_threaded.worker"):
        roots = [path for path in sys.path if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
        import subprocess

        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, source_identity()], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)  # fmt: skip
        except OSError as error:
            raise WorkerError(f"a compiler process failed: {error.strerror}") from error
        atexit.register(self._process.kill)

    def ask(self, words: list[str]) -> bytes:
        """Have a job done; WorkerError if it fails or the process dies."""
        process = self._process
        assert process.stdin is not None
        try:
            process.stdin.write((" ".join(words) + "\n").encode())
            process.stdin.flush()
        except OSError as error:  # it ended before it read its job
            self._refuse_stale()
            raise WorkerError(f"a compiler process failed: {error.strerror}") from error
        length = int.from_bytes(self._read(8), "little")
        if length == 0:
            raise WorkerError(self._read(int.from_bytes(self._read(8), "little")).decode())
        return self._read(length)

    def _read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(length)
        if len(data) != length:
            self._refuse_stale()
            raise WorkerError("a compiler process ended early")
        return data

    def _refuse_stale(self) -> None:
        """After the process ended: StaleSources if it was for that."""
        from subprocess import TimeoutExpired

        with contextlib.suppress(TimeoutExpired):
            if self._process.wait(1.0) == _STALE:
                raise StaleSources("pytcg was changed while it ran; start it again")

    def close(self) -> None:
        """End the process; a job under way is lost."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        atexit.unregister(self._process.kill)
        self._process.stdout.close()


def _serve(todo: list[tuple[int, list[str]]], results: dict[int, bytes], errors: list[Exception],
           lock: threading.Lock, done: Callable[[], None]) -> None:  # fmt: skip
    """One worker's thread: feed it jobs until none is left."""
    try:
        with contextlib.closing(WorkerProcess()) as process:
            while not errors:
                with lock:
                    if not todo:
                        break
                    number, words = todo.pop(0)
                results[number] = process.ask(words)
                done()
    except Exception as error:
        errors.append(error)


def run_jobs(jobs: list[list[str]], progress: Callable[[int, int], None]) -> list[bytes]:
    """Compile jobs in as many processes as there are cores; objects in the jobs' order."""
    todo = list(enumerate(jobs))
    results: dict[int, bytes] = {}
    errors: list[Exception] = []
    lock = threading.Lock()
    workers = max(1, min(os.cpu_count() or 1, len(jobs), 8))
    threads = [
        threading.Thread(target=_serve, daemon=True,
                         args=(todo, results, errors, lock,
                               lambda: progress(len(results), len(jobs))))
        for _ in range(workers)
    ]  # fmt: skip
    progress(0, len(jobs))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(jobs))]


if __name__ == "__main__":
    from pytcg_threaded.jobs import run_job

    serve(run_job)
