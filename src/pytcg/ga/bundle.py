"""`python -m pytcg.ga.bundle FILE`: the agent as one file, for guests with a Python 3.9."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

START = """\
import sys
from pytcg.ga.__main__ import main
sys.exit(main())
"""
LAUNCHER = b"#!/usr/bin/env python3\n"
WHEN = (2000, 1, 1, 0, 0, 0)  # so that the same sources make the same file


def bundle(target: Path) -> None:
    """Write an executable zip application (PEP 441)."""
    with target.open("wb") as file:
        file.write(LAUNCHER)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("__main__.py", WHEN), START)
            archive.writestr(zipfile.ZipInfo("pytcg/__init__.py", WHEN), "")
            for source in sorted(Path(__file__).parent.glob("*.py")):
                if source.name != Path(__file__).name:
                    name = f"pytcg/ga/{source.name}"
                    archive.writestr(zipfile.ZipInfo(name, WHEN), source.read_bytes())
    os.chmod(target, 0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pytcg.ga.bundle FILE")
    try:
        bundle(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
