"""Unicorn's own unit tests in C, run on `pytcg.unicorn` (see `libunicorn`).

    python -m tests.foreign.unicorn_c [--source FOLDER] [--suite test_x86 …] [TEST …]

FOLDER is Unicorn's unpacked source distribution; without it pip fetches it. Needs gcc. Prints what
fails, less what `KNOWN` explains; exit status 1 if something is left.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.foreign.libunicorn import Library
from tests.foreign.unicorn_scripts import fetch

SUITES = ("test_x86", "test_mem", "test_ctl")
_VIRTUAL = "uc_vmem_… are C's only: their stand-ins here know no permissions"
#: Why a test does not pass.
KNOWN: Mapping[str, str] = {
    "test_x86_x87_fnstenv": "FNOP sets the x87 instruction pointer, as on the host",
    "test_x86_smc_mem_hook": "a store into the block it is in is told once, not twice",
    "test_x86_correct_address_in_long_jump_hook": "a jump to a non-canonical address is #GP",
    "test_x86_invalid_vex_l": "there is AVX",
    "test_x86_read_virtual": _VIRTUAL,
    "test_virtual_to_physical": _VIRTUAL,
    "test_virtual_write": _VIRTUAL,
    "test_mem_read_and_write_large_memory_block": "an ARM guest",
    "test_tlb_clear": "no TLB_FILL hooks",
    "test_x86_vtlb": "no TLB_FILL hooks",
    "test_snapshot": "snapshots in contexts are C's only",
    "test_snapshot_with_vtlb": "no TLB_FILL hooks",
    "test_context_snapshot": "snapshots in contexts are C's only",
    "test_snapshot_unmap": "snapshots in contexts are C's only",
}
_TEST = re.compile(r"^Test (\S+?)\.\.\.(.*)$", re.M)


def call(source: Path, suite: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a suite in a process of its own."""
    return subprocess.run([sys.executable, "-m", "tests.foreign.unicorn_c", "--source", str(source),
                           "--suite", suite, "--inside", *words],
                          capture_output=True, text=True, errors="replace", check=False,
                          timeout=1500)  # fmt: skip


def names(source: Path, suite: str) -> list[str]:
    """The tests that are in a suite."""
    listed = call(source, suite, "--list").stdout
    return re.findall(r"^ +(\S+)$", listed, re.M)


def inside(source: Path, suite: str, folder: Path, tests: list[str]) -> int:
    """Run tests in this process."""
    (folder / "config-host.h").touch()
    unit = source / "src/tests/unit"
    return Library().run(unit / f"{suite}.c", [source / "src/include", unit, folder], folder,
                         "--no-exec", "--no-summary", "-v", *tests)  # fmt: skip


def suite_results(source: Path, suite: str, tests: list[str]) -> dict[str, str]:
    """What each test said, "" if it passed; one that ends the process is passed over."""
    left, found = tests or names(source, suite), dict[str, str]()
    while left:
        done = call(source, suite, *left)
        parts = _TEST.split(done.stdout)
        for name, verdict, said in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            found[name] = "" if "OK" in verdict or "SUCCESS" in said else (verdict + said).strip()
        died = done.returncode not in (0, 1)
        if died and len(parts) > 1:
            found[parts[-3]] = f"ended by {done.returncode} {done.stderr[-500:]}"
        elif not parts[1:]:
            raise SystemExit(f"{suite}: {done.stderr[-2000:]}")
        left = [name for name in left if name not in found] if died else []
    return found


def main() -> int:
    """The exit status says whether something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--suite", action="append", choices=SUITES)
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("tests", nargs="*", metavar="TEST")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or fetch(Path(folder))
        if options.inside is not None:
            return inside(source, options.suite[0], Path(folder), options.inside)
        for suite in options.suite or SUITES:
            for name, said in suite_results(source, suite, options.tests).items():
                known = KNOWN.get(name, "FAILS")
                print(f"{suite}.{name}: {'ok' if not said else known}", flush=True)
                if said and name not in KNOWN:
                    wrong += 1
                    print(said)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
