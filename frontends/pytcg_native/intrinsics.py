"""Names the compiler knows itself; here for type checkers and as the list of what there is."""

from __future__ import annotations

from typing import Any, TypeVar

from pytcg_native.types import Pointer, ptr


def _compiled_only() -> Any:
    raise TypeError("native code runs compiled only")


def likely(condition: bool | int) -> bool:
    """``condition``, expected true."""
    return _compiled_only()  # type: ignore[no-any-return]


def unlikely(condition: bool | int) -> bool:
    """``condition``, expected false."""
    return _compiled_only()  # type: ignore[no-any-return]


def _loader(pointer: Pointer, offset: int = 0) -> int:
    return _compiled_only()  # type: ignore[no-any-return]


def _storer(pointer: Pointer, offset: int, value: int) -> None:
    _compiled_only()


load8 = load16 = load32 = load64 = load128 = _loader
store8 = store16 = store32 = store64 = store128 = _storer


def _unary(value: int) -> int:
    return _compiled_only()  # type: ignore[no-any-return]


def _binary(a: int, b: int) -> int:
    return _compiled_only()  # type: ignore[no-any-return]


clz = ctz = popcnt = bswap = _unary
rotl = rotr = mulhu = mulhs = sdiv = srem = _binary


def fill(pointer: Pointer, byte: int, size: int) -> None:
    """Set ``size`` bytes (C's memset)."""
    _compiled_only()


def select(condition: bool | int, then: int, otherwise: int) -> int:
    """Both values are computed; one is chosen without a branch."""
    return _compiled_only()  # type: ignore[no-any-return]


def address_of(field: Any) -> ptr:
    """The address of a struct field or element."""
    return _compiled_only()  # type: ignore[no-any-return]


def pointer_difference(a: Pointer, b: Pointer) -> int:
    """Bytes from ``b`` to ``a`` (i64)."""
    return _compiled_only()  # type: ignore[no-any-return]


def symbol(name: str) -> ptr:
    """The address of a linked symbol."""
    return _compiled_only()  # type: ignore[no-any-return]


def call_host(function: Pointer, result: str, *args: Any) -> Any:
    """Call a host function pointer (C convention); ``result`` names the scalar it returns."""
    return _compiled_only()


def enter(code: Pointer, env: Pointer, rec: Pointer, ram: Pointer) -> None:
    """Run threaded code until it returns."""
    _compiled_only()


def resume(code: Pointer, rec: Pointer) -> Any:
    """In the ``return`` of threaded code: go on with ``code`` on a record that has other code."""
    return _compiled_only()


T = TypeVar("T")


def attempt(call: T) -> T:
    """A call whose guest exception, if any, is left in the state for the caller to look at."""
    return _compiled_only()  # type: ignore[no-any-return]


def get_mxcsr() -> int:
    """The host's SSE control and status word (u32)."""
    return _compiled_only()  # type: ignore[no-any-return]


def set_mxcsr(value: int) -> None:
    """Load the host's SSE control and status word."""
    _compiled_only()


def cycles() -> int:
    """The host's time stamp counter."""
    return _compiled_only()  # type: ignore[no-any-return]
