"""Speakeasy on `pytcg.unicorn`: `python -m tests.foreign.speakeasy PROGRAM.exe`.

Emulates a Windows program under Speakeasy (`pip install speakeasy-emulator`) twice, with Unicorn
and with pytcg's module in its place, and compares the calls of Windows' interface that its report
lists (not their arguments: some come from the clock). Speakeasy adds hooks by Unicorn's C
interface, which `libunicorn` has; it installs a package `tests` of its own, which has to go.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import subprocess
import sys
import time
from types import ModuleType
from typing import Any

from tests.foreign.swap import swap

_U64, _U32, _INT, _PTR = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p
_CALLBACKS = {
    "UC_HOOK_CODE_CB": (None, _PTR, _U64, ctypes.c_size_t, _PTR),
    "UC_HOOK_MEM_INVALID_CB": (ctypes.c_bool, _PTR, _INT, _U64, _INT, ctypes.c_int64, _PTR),
    "UC_HOOK_MEM_ACCESS_CB": (None, _PTR, _INT, _U64, _INT, ctypes.c_int64, _PTR),
    "UC_HOOK_INSN_IN_CB": (_U32, _PTR, _U32, _INT, _PTR),
    "UC_HOOK_INSN_SYSCALL_CB": (None, _PTR, _PTR),
}  # fmt: skip


def c_interface() -> ModuleType:
    """The module ``unicorn.unicorn``: types of callbacks, and ``_uc``, the C library."""
    from pytcg.unicorn import Uc, UcError
    from tests.foreign.libunicorn import Library

    library = Library()

    def handle(engine: Uc) -> int:
        if "_handle" not in vars(engine):
            vars(engine)["_handle"] = library._new(engine)
        return int(vars(engine)["_handle"])

    def hook_add(engine: int, result: Any, kind: int, callback: int, data: int | None,
                 begin: int, end: int, instruction: Any = 0) -> int:  # fmt: skip
        place = ctypes.addressof(result._obj)
        number = getattr(instruction, "value", instruction)
        try:
            library.uc_hook_add(engine, place, kind, callback, data or 0, begin, end, number, 0)
        except UcError as error:
            return error.errno
        return 0

    setattr(Uc, "_uch", property(handle))  # noqa: B010
    module, functions = ModuleType("unicorn.unicorn"), ModuleType("_uc")
    for name, (result, *parameters) in _CALLBACKS.items():
        vars(module)[name] = ctypes.CFUNCTYPE(result, *parameters)
    vars(functions)["uc_hook_add"] = hook_add
    vars(module)["_uc"] = functions
    return module


def emulate(program: str) -> None:
    """Run a program in this process; what it called goes to stdout."""
    speakeasy = importlib.import_module("speakeasy")
    machine = speakeasy.Speakeasy()
    loaded = machine.load_module(program)
    began = time.perf_counter()
    machine.run_module(loaded)
    seconds = time.perf_counter() - began
    report = machine.get_report()
    found = [(entry["start_addr"], entry.get("error", {}).get("type"),
              [(api["pc"], api["api_name"]) for api in entry["apis"]])
             for entry in report["entry_points"]]  # fmt: skip
    json.dump([round(seconds, 2), found], sys.stdout)


def main() -> int:
    """Compare both; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("unicorn", "pytcg"))
    parser.add_argument("program")
    options = parser.parse_args()
    if options.engine:
        if options.engine == "pytcg":
            swap()
            sys.modules["unicorn.unicorn"] = vars(sys.modules["unicorn"])["unicorn"] = c_interface()
        emulate(options.program)
        return 0
    answers = []
    for engine in ("unicorn", "pytcg"):
        done = subprocess.run([sys.executable, "-m", "tests.foreign.speakeasy", "--engine", engine,
                               options.program], capture_output=True, check=False)  # fmt: skip
        if done.returncode:
            print(f"{engine}: {done.stderr.decode(errors='replace')[-2000:]}")
            return 1
        seconds, found = json.loads(done.stdout)
        print(f"{engine}: {seconds} s, {sum(len(entry[2]) for entry in found)} calls")
        answers.append(found)
    print("the same" if answers[0] == answers[1] else "they differ")
    return int(answers[0] != answers[1])


if __name__ == "__main__":
    raise SystemExit(main())
