"""Background compilers: ``python -m pytcg_region.worker``.

A job is ``region``, a key and a request in hex; or any of `pytcg_threaded.jobs`.
"""

from __future__ import annotations

import os

from pytcg_region.compile import compile_region
from pytcg_threaded import jobs
from pytcg_threaded.worker import serve

_NICE = 5
"""The guest, and handlers that it waits for, come first."""


def run_job(words: list[str]) -> bytes:
    """Compile the request ``words[2]`` (hex) under the key ``words[1]``, or do another job."""
    if words[0] != "region":
        return jobs.run_job(words)
    return compile_region(bytes.fromhex(words[2]), words[1])


if __name__ == "__main__":
    os.nice(_NICE)
    serve(run_job)
