"""Work done ahead in threads, its results used in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from pytcg.typed import Any, TypeVar

Task = TypeVar("Task")


def run_ordered(tasks: Iterator[Task], work: Callable[[Task], Any],
                finish: Callable[[Task, Any], None], workers: int) -> None:
    """``finish(task, work(task))`` for all tasks in order, ``work`` running ahead in threads.

    Without ``workers`` all is done right here.
    """
    pool: _Pool | None = None
    waiting: deque[_Job] = deque()
    try:
        for task in tasks:
            if workers == 0:
                finish(task, work(task))
                continue
            if pool is None:
                pool = _Pool(work, workers)
            waiting.append(pool.submit(task))
            if len(waiting) > 2 * workers:
                job = waiting.popleft()
                finish(job.task, job.result())
        for job in waiting:
            finish(job.task, job.result())
    finally:
        if pool is not None:
            pool.stop()


class _Job:
    """A task in the pool and, in time, its result."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self._done = threading.Semaphore(0)
        self._value: Any = None
        self._error: BaseException | None = None

    def execute(self, work: Callable[[Any], Any]) -> None:
        """Run in a worker."""
        try:
            self._value = work(self.task)
        except BaseException as error:
            self._error = error
        self._done.release()

    def result(self) -> Any:
        """Wait for the value, or raise what the work raised."""
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value


class _Pool:
    """A few threads; concurrent.futures would cost more to import than small copies take."""

    def __init__(self, work: Callable[[Any], Any], workers: int) -> None:
        self._work = work
        self._jobs: deque[_Job | None] = deque()
        self._ready = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, daemon=True)
                         for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while True:
            self._ready.acquire()
            try:
                job = self._jobs.popleft()
            except IndexError:  # stop() took it
                continue
            if job is None:
                return
            job.execute(self._work)

    def submit(self, task: Any) -> _Job:
        """Queue a task."""
        job = _Job(task)
        self._put(job)
        return job

    def _put(self, job: _Job | None) -> None:
        self._jobs.append(job)
        self._ready.release()

    def stop(self) -> None:
        """Drop what is queued and end the threads."""
        self._jobs.clear()
        while self._ready.acquire(blocking=False):
            pass
        for _ in self._threads:
            self._put(None)
        for thread in self._threads:
            thread.join()
