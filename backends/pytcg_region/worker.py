"""Region compilers: ``python -m pytcg_region.worker``; a job is a key and a request in hex."""

from __future__ import annotations

import gc
import itertools

from pytcg_region.compile import compile_region
from pytcg_threaded.worker import serve

_COLLECT = 64
"""Jobs between two collections of garbage."""
_jobs = itertools.count(1)


def run_job(words: list[str]) -> bytes:
    """Compile the request ``words[1]`` (hex) under the key ``words[0]``."""
    made = compile_region(bytes.fromhex(words[1]), words[0])
    if next(_jobs) % _COLLECT == 0:
        gc.collect()
    return made


if __name__ == "__main__":
    gc.disable()  # its passes took a third of the time; functions are cycles, so collect at times
    serve(run_job)
