"""Hooks in the ``@native`` subset: compiled on first use, called without Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytcg.errors import HookError
from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg_native.compiler import Program
from pytcg_native.expressions import ir_type
from pytcg_native.types import NativeError, NativeFunction

if TYPE_CHECKING:
    from pytcg_x86.core.cpu import Engine

_CODE = [("env", Type.PTR), ("data", Type.PTR), ("address", Type.I64), ("size", Type.I32)]
_MEMORY = [*_CODE, ("value", Type.I64)]
_made: dict[tuple[int, NativeFunction[Any, Any], bool], int] = {}


def native_hook(engine: Engine, function: NativeFunction[Any, Any], *, memory: bool) -> int:
    """The address of a hook's code; HookError if it is not of a hook's form.

    Code hooks are (env, data: ptr, address: u64, size: u32), memory hooks have value: u64 besides;
    they return None or u64.
    """
    key = id(engine), function, memory
    if key not in _made:
        program = Program()
        try:
            _ = function.tree
        except OSError:  # typed at a prompt, or given to exec
            raise HookError(f"{function.name} has no source that can be read: put it into a file"
                            ) from None  # fmt: skip
        try:
            program.add([function])
            wrapper = _wrapper(program, function, _MEMORY if memory else _CODE)
            _made[key] = engine.define_native(wrapper, program)
        except NativeError as error:
            raise HookError(str(error)) from None
    return _made[key]


def _wrapper(program: Program, function: NativeFunction[Any, Any],
             params: list[tuple[str, Type]]) -> Function:  # fmt: skip
    """A function of the hook's signature whatever ``function`` returns."""
    signature = program.signatures[function.name]
    types = [ir_type(scalar) for _, scalar, _ in signature.params]
    result = ir_type(signature.result)
    if types != [type_ for _, type_ in params] or result not in (Type.VOID, Type.I64):
        names = ", ".join(name for name, _ in params)
        kinds = "ptr, ptr, u64, u32" + (", u64" if len(params) == 5 else "")
        raise HookError(f"{function.name}: a hook takes ({names}), of types ({kinds}), and returns"
                        f" None or u64")  # fmt: skip
    wrapper = Function(f"hook{len(_made)}", params, Type.I64)
    builder = Builder(wrapper)
    if function.inline:
        value = builder.inline(program.compile(function), list(wrapper.params), None)
    else:
        value = builder.call(function.name, result, *wrapper.params)
    builder.ret(builder.const(0, Type.I64) if value is None else value)
    return wrapper
