"""What is compiled for the guest does not depend on what a process has imported."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import importlib, json, pkgutil, sys
import pytcg_x86
if sys.argv[1] == "all":
    for module in pkgutil.walk_packages(pytcg_x86.__path__, "pytcg_x86."):
        importlib.import_module(module.name)
from pytcg_threaded.jobs import core_names
print(json.dumps(core_names()))
"""


def names(which: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, which], check=True, capture_output=True,
                          text=True, env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    found: list[str] = json.loads(done.stdout)
    return found


def test_the_core_is_the_same_whatever_else_is_imported() -> None:
    assert names("few") == names("all")
    assert "soft_aesenc" in names("few")  # for hosts without the instruction
