"""Qiling on `pytcg.unicorn`: `python -m tests.foreign.qiling PROGRAM [ARGUMENT…]`.

Runs a static Linux program under Qiling (`pip install qiling`) twice, with Unicorn and with pytcg's
module in its place, and compares what it writes and its exit status. The instructions it ran are
shown: they differ where a program asks CPUID what there is, and Unicorn counts each repetition.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
import time

from tests.foreign.swap import swap


def emulate(command: list[str]) -> None:
    """Run a program in this process; the account goes to stderr."""
    qiling = importlib.import_module("qiling")
    verbose = importlib.import_module("qiling.const").QL_VERBOSE.OFF
    count = 0

    def instruction(*_: object) -> None:
        nonlocal count
        count += 1

    with tempfile.TemporaryDirectory() as root:
        program = shutil.copy(command[0], root)
        machine = qiling.Qiling([program, *command[1:]], root, verbose=verbose)
        machine.hook_code(instruction)
        began = time.perf_counter()
        machine.run()
        seconds = time.perf_counter() - began
    sys.stdout.flush()
    print(f"{machine.os.exit_code} {count} {seconds:.3f}", file=sys.stderr)


def main() -> int:
    """Compare both; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("unicorn", "pytcg"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.engine:
        if options.engine == "pytcg":
            swap()
        emulate(options.command)
        return 0
    answers = []
    for engine in ("unicorn", "pytcg"):
        done = subprocess.run([sys.executable, "-m", "tests.foreign.qiling", "--engine", engine,
                               *options.command], capture_output=True, check=False)  # fmt: skip
        account = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        print(f"{engine}: {account[0] if account else 'nothing'}")
        answers.append((done.returncode, done.stdout, account[0].split()[:1] if account else []))
    same = answers[0] == answers[1] and answers[0][0] == 0
    print("the same" if same else f"they differ: {answers}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
