"""QEMU's own block tests (tests/qemu-iotests of its sources), run on our tools.

    python -m tests.foreign.iotests SOURCE [--format FMT] [--protocol PROTO] [--jobs N] [test ...]

SOURCE is an unpacked QEMU source tree (`apt-get source qemu`), of the version whose qemu-img,
qemu-system-x86_64 and qemu-storage-daemon are installed: a test counts only where it passes with
those. Prints what passes with theirs and fails with ours, less what `KNOWN` explains; exit status 1
if something is left.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOLS = ("img", "io", "nbd")
#: With --format qcow2: why a test that passes with QEMU 7.2's tools does not with ours.
KNOWN: Mapping[str, str] = {
    "026": "blkdebug events come where our code does the thing: refblock_alloc and refblock_load",
    "049": "encryption (docs/GAPS.md)",
    "080": "other words for headers and snapshot tables that can't be right",
    "098": "an image is emptied by discards: QEMU's events of that do not come",
    "110": "the quorum driver",
    "112": "expects clusters leaked by a failed snapshot -c; steps of amend -p",
    "134": "encryption",
    "158": "encryption",
    "162": "the ssh driver",
    "190": "QEMU stores all bitmaps anew at each close: its file is longer",
    "217": "a snapshot -d that fails leaves other refcounts: ours drops them last",
    "250": "disk usage after a shrink differs by a block of the host filesystem",
    "271": "freed clusters are used again only after a flush",
    "303": "bitmaps are written where they changed only",
    "qemu-img-bitmaps": "a bitmap is marked in use at the first write, not at opening",
}
_RESULT = re.compile(r"(\S+)\s+(pass|fail|not run|casenotrun)\s")


def link_tools(folder: Path, *, ours: bool) -> dict[str, str]:
    """Links by QEMU's names to our tools or to theirs, as the suite's environment wants them."""
    folder.mkdir()
    environment = {}
    for tool in TOOLS:
        program = (Path(sys.executable).with_name(f"pytcg-{tool}") if ours
                   else shutil.which(f"qemu-{tool}"))
        if program is None:
            raise SystemExit(f"iotests: qemu-{tool} is not installed")
        link = folder / f"qemu-{tool}"
        link.symlink_to(program)
        environment[f"QEMU_{tool.upper()}_PROG"] = str(link)
    return environment


def run(source: Path, scratch: Path, options: Sequence[str], *, ours: bool) -> dict[str, str]:
    """Test name to result of one run; scratch files of failed tests stay in ``scratch``."""
    environment = {
        **os.environ,
        **link_tools(scratch, ours=ours),
        "QEMU_PROG": shutil.which("qemu-system-x86_64") or "",
        "QSD_PROG": shutil.which("qemu-storage-daemon") or "",
        "TEST_DIR": str(scratch / "images"),
        "SOCK_DIR": str(scratch / "sockets"),
    }
    environment.pop("PYTHONUNBUFFERED", None)  # the suite's outputs are those of buffered pipes
    done = subprocess.run(
        ["python3", "./check", *options], cwd=source / "tests" / "qemu-iotests",
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = dict(_RESULT.findall(done.stdout))
    if not found:
        raise SystemExit(f"iotests: the suite ran no test:\n{done.stdout}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite with both, and compare."""
    parser = argparse.ArgumentParser(prog="iotests", description="QEMU's iotests on our tools")
    parser.add_argument("source", type=Path)
    parser.add_argument("--format", default="qcow2")
    parser.add_argument("--protocol", default="file")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("tests", nargs="*", metavar="test")
    arguments = parser.parse_args(argv)
    options = [f"-{arguments.format}", f"-{arguments.protocol}", "-j", arguments.jobs]
    scratch = Path(tempfile.mkdtemp(prefix="iotests-"))
    theirs = run(arguments.source, scratch / "qemu", [*options, *arguments.tests], ours=False)
    passing = sorted(name for name, result in theirs.items() if result == "pass")
    ours = run(arguments.source, scratch / "pytcg", [*options, *passing], ours=True)
    failed = [name for name in passing if ours.get(name) != "pass"]
    unknown = [name for name in failed if name not in KNOWN]
    for name in failed:
        print(f"{name:<32} {KNOWN.get(name, 'FAILED: see ' + str(scratch / 'pytcg'))}")
    print(f"{len(passing) - len(failed)} passed, {len(unknown)} failed, "
          f"{len(failed) - len(unknown)} known, of {len(passing)} that pass with QEMU's tools")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
