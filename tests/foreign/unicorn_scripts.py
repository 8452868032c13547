"""Unicorn's own Python samples and regression tests, run on `pytcg.unicorn`.

    python -m tests.foreign.unicorn_scripts [--source FOLDER] [--jobs N] [NAME …]

FOLDER is Unicorn's unpacked source distribution; without it pip fetches that of the version that is
installed. Each script about x86 runs twice, unchanged: with Unicorn and with pytcg's module in its
place. A sample must print the same, a test must pass where it passes with Unicorn, less what
`KNOWN` explains. Exit status 1 if something is left.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

_ANYWHERE = "all addresses can be mapped, whatever the TLB's mode"
_ENVIRONMENT = "empty registers are tagged so, FNSTENV sets reserved bits as hardware does"
#: Why something differs: by the script's name, or by script and test.
KNOWN: Mapping[str, str] = {
    "core_ctl.TestCtl.test_mode": "an ARM guest",
    "core_ctl.TestCtl.test_tlb_mode": _ANYWHERE,
    "high_mem.TestMem.test_cpu_high_mapping": _ANYWHERE,
    "fpu_ip.FpuIP.test_32": _ENVIRONMENT,
    "fpu_ip.FpuIP.test_64": _ENVIRONMENT,
    "fpu_mem_write.FpuWrite.runTest": "the x87 unit begins as FNINIT leaves it",
    "x86_eflags.WrongEFLAGS2.test_eflags": "flags that IMUL leaves undefined",
    "bad_ram.BadRam.runTest": "RETF's stack pointer isn't cut to 16 bits: a null selector",
}
#: What a sample may print otherwise: random numbers, times, and blocks: ours end behind OUT, and
#: are shorter.
_VARIES = re.compile(r"b'[0-9a-f]{3}[0-9a-f-]*'|Run time:.*|which has .* bytes|"
                     r"^.* block at 0x100000[06], .*\n", re.M)  # fmt: skip
_RESULT = re.compile(r"^\w+ \(__main__\.(.*?)\)\n?.*? \.\.\. (?:.*\n)*?.*?"
                     r"(ok|FAIL|ERROR|skipped .*)$", re.M)  # fmt: skip
_TIME = 600  # seconds


def fetch(folder: Path) -> Path:
    """Unicorn's source distribution, unpacked in a folder."""
    name = f"unicorn=={version('unicorn')}"
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-binary", "unicorn",
                    "--no-deps", "-d", str(folder), name], check=True)  # fmt: skip
    archive = next(folder.glob("unicorn-*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def scripts(source: Path) -> Iterator[Path]:
    """The samples and tests that are about x86."""
    for folder in (source / "tests", source / "src/tests/regress"):
        for path in sorted(folder.glob("*.py")):
            if "UC_ARCH_X86" in path.read_text():
                yield path


def outcome(script: Path, *, ours: bool) -> dict[str, str]:
    """What a script came to: of each test, or of a sample what it printed."""
    text = script.read_text()
    tested = "unittest" in text or "regress.main" in text
    command = [sys.executable, *(["-m", "tests.foreign.swap"] if ours else []), str(script)]
    try:
        done = subprocess.run([*command, *(["-v"] if tested else [])], capture_output=True,
                              text=True, timeout=_TIME, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {script.stem: "no end"}
    if not tested:
        said = done.stdout if done.returncode == 0 else done.stderr[-1000:]
        return {script.stem: _VARIES.sub("", said)}
    found = {f"{script.stem}.{test}": result for test, result in _RESULT.findall(done.stderr)}
    return found or {script.stem: done.stderr[-1000:]}


def compare(script: Path) -> list[str]:
    """A line for each thing that is not as with Unicorn; prints what it looked at."""
    theirs, ours = outcome(script, ours=False), outcome(script, ours=True)
    wrong = []
    for name, result in theirs.items():
        passes = result == "ok" or name == script.stem
        same = not passes or ours.get(name) == result
        print(f"{name}: {'the same' if same else KNOWN.get(name, 'DIFFERS')}", flush=True)
        if not same and name not in KNOWN:
            wrong.append(f"{name}: {ours.get(name, ours)!r}")
    return wrong


def main() -> int:
    """Compare all; the exit status says whether something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or fetch(Path(folder))
        chosen = [path for path in scripts(source)
                  if not options.names or path.stem in options.names]  # fmt: skip
        with ThreadPoolExecutor(options.jobs) as pool:
            wrong = [line for lines in pool.map(compare, chosen) for line in lines]
    print(f"{len(chosen)} scripts", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
