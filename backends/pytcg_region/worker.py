"""Region compilers: ``python -m pytcg_region.worker``; a job is a key and a request in hex."""

from __future__ import annotations

import os

from pytcg_region.compile import compile_region
from pytcg_threaded.worker import serve

_NICE = 5
"""The guest, and handlers that it waits for, come first."""


def run_job(words: list[str]) -> bytes:
    """Compile the request ``words[1]`` (hex) under the key ``words[0]``."""
    return compile_region(bytes.fromhex(words[1]), words[0])


if __name__ == "__main__":
    os.nice(_NICE)
    serve(run_job)
