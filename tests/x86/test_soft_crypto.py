"""The native functions for hosts without AES, SHA, … instructions mean what the ops mean."""

from __future__ import annotations

import random

import pytest

from pytcg.ir.meaning import evaluate
from pytcg.ir.ops import OPS, Type
from pytcg_llvm.crypto import INSTRUCTIONS
from pytcg_native.compiler import Program
from pytcg_python.compiler import PythonHost
from pytcg_x86.vector import soft


@pytest.mark.parametrize("op", sorted(INSTRUCTIONS))
def test_soft_function_agrees_with_its_op(op: str) -> None:
    program, host, rng = Program(), PythonHost(), random.Random(op)
    program.add([getattr(soft, "soft_" + op)])
    for function in program.compile_all():
        host.define(function)
    for table in program.tables.values():
        host.define_data(table.name, table.data())
    types = [Type.I64 if letter == "i64" else Type.I128 for letter in OPS[op].args]
    modes = range(4) if "mode" in OPS[op].attrs else (None,)
    for mode in modes:
        for _ in range(20):
            args = [rng.getrandbits(64 if type_ is Type.I64 else 128) for type_ in types]
            attrs = {} if mode is None else {"mode": mode}
            wanted = evaluate(op, args, types[0], Type.I128, attrs)
            found = host.call("soft_" + op, *args, *([] if mode is None else [mode]))
            assert found == wanted, [hex(a) for a in args]
