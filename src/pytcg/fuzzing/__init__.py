"""Fuzzing: a map of edges, and harnesses that afl-fuzz or libFuzzer drive.

A harness puts an input into guest memory, runs it from a snapshot, and says whether it crashed:

    def run(data: bytes) -> Stop:
        cpu.restore(snapshot)
        cpu.write(BUFFER, data)
        return cpu.run(start, end, max_insns=1_000_000)

    fuzz(cpu, run)

`afl-fuzz -i in -o out -- python harness.py @@` then fuzzes it (with AFL_SKIP_BIN_CHECK=1, as Python
is not instrumented); without afl-fuzz the harness runs the files named on the command line.
Several cores take several afl-fuzz (-M and -S): each harness is a process of its own.

With `libfuzzer(cpu, run)` at its end instead, `python harness.py CORPUS` is a libFuzzer with all
its options; `-fork=4` uses four cores.
"""

from pytcg.fuzzing.afl import fuzz
from pytcg.fuzzing.edges import MAP_SIZE, EdgeMap, note_edge
from pytcg.fuzzing.libfuzzer import libfuzzer

__all__ = ["MAP_SIZE", "EdgeMap", "fuzz", "libfuzzer", "note_edge"]
