"""What each pass does to a small text."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from pytcg.ir.blocks import Function
from pytcg.ir.text import TextError, parse_function, print_function
from pytcg.ir.verify import VerifyError, verify
from pytcg.opt.constants import fold_constants
from pytcg.opt.copies import propagate_copies
from pytcg.opt.dead_code import remove_dead_code
from pytcg.opt.dead_stores import remove_dead_stores


def body(text: str, *passes: Callable[[Function], None]) -> str:
    """The body of a function (x: i64, env: ptr) after the passes, one op a line."""
    head = "function f(env %0: ptr, rec %1: ptr, ram %2: ptr) -> void threaded\n"
    function = parse_function(head + dedent(text))
    verify(function)
    for one_pass in passes:
        one_pass(function)
        verify(function)
    lines = print_function(function).splitlines()[1:]
    return "\n".join(line.strip() for line in lines)


def test_constants_fold_through_conversions_and_branches() -> None:
    assert body("""
        @a:
          %3: i8 = trunc 0x1ff:i64 type=i8
          %4: i64 = sext %3 type=i64
          %5: i1 = eq %4, 0xffffffffffffffff:i64
          brif %5 then=@b otherwise=@c likely=None
        @b:
          st %4, %0
          ret
        @c:
          ret
        """, fold_constants, remove_dead_code) == dedent("""\
        @a:
        br target=@b
        @b:
        st 0xffffffffffffffff:i64, %0
        ret""")  # fmt: skip


def test_a_get_becomes_what_was_set_in_a_dominating_block() -> None:
    assert body("""
          local $x.0: i64
        @a:
          %3: i64 = ld %0 type=i64
          set %3 local=$x.0
          br target=@b
        @b:
          %4: i64 = get local=$x.0 type=i64
          st %4, %1
          ret
        """, propagate_copies, remove_dead_code) == dedent("""\
        @a:
        %3: i64 = ld %0 type=i64
        br target=@b
        @b:
        st %3, %1
        ret""")  # fmt: skip


def test_a_local_set_in_a_loop_stays() -> None:
    text = """
          local $x.0: i64
        @a:
          set 0x1:i64 local=$x.0
          br target=@b
        @b:
          %4: i64 = get local=$x.0 type=i64
          %5: i64 = add %4, 0x1:i64
          set %5 local=$x.0
          %6: i1 = ult %5, 0x9:i64
          brif %6 then=@b otherwise=@c likely=None
        @c:
          ret
        """
    assert body(text, propagate_copies) == body(text)


DEAD_FLAG = """
    @a:
      %3: ptr = ptradd %0, 0x8:i64
      st 0x1:i64, %3
      {between}
      %9: ptr = ptradd %0, 0x8:i64
      st 0x2:i64, %9
      ret
    """


@pytest.mark.parametrize(("between", "dead"), [
    ("st 0x1:i8, %1", True),
    ("%5: i64 = ld %1 type=i64", True),
    ("%5: i64 = ld %0 type=i64", True),
    ("%5: i8 = ld %3 type=i8", False),
    ("call %0 callee=helper type=void", False),
    ("%5: ptr = ld %1 type=ptr\n      %6: i8 = ld %5 type=i8", False),
])  # fmt: skip
def test_a_flag_overwritten_unseen_is_not_stored(between: str, dead: bool) -> None:
    left = body(DEAD_FLAG.format(between=between), remove_dead_stores)
    assert ("st 0x1:i64, %3" not in left) is dead
    assert "st 0x2:i64, %9" in left


def test_a_store_dead_on_one_way_only_stays() -> None:
    assert "st 0x1:i64, %0" in body("""
        @a:
          st 0x1:i64, %0
          %3: i1 = ld %1 type=i1
          brif %3 then=@b otherwise=@c likely=True
        @b:
          st 0x2:i64, %0
          ret
        @c:
          ret
        """, remove_dead_stores)  # fmt: skip


def test_sticky_float_ops_are_not_dead() -> None:
    text = """
        @a:
          %3: f32 = ld %0 type=f32
          %4: f32 = fadd %3, %3
          ret
        """
    assert body(text, remove_dead_code) == body(text)


@pytest.mark.parametrize(("ops", "message"), [
    ("ret 0x1:i64", "the function's result is void"),
    ("%3: i64 = add 0x1:i64, 0x1:i32\n ret", "operands of types i64 and i32"),
    ("%3: i32 = add 0x1:i64, 0x1:i64\n ret", "results in i64, not i32"),
    ("%3: i64 = zext 0x1:i64 type=i64\n ret", "not a conversion that way"),
    ("%3: i64 = add 0x1:i64\n ret", "takes 2 operands"),
    ("st 0x100:i8, %0\n ret", "does not fit its type"),
    ("%3: i64 = fadd 0x1:i64, 0x1:i64\n ret", "is a i64"),
    ("st 0x1:i8, %0", "no terminal at the end"),
    ("ret\n ret", "a terminal in the middle"),
    ("%3: i32 = vmsb 0x0:i128 lane=7\n ret", "no such lane width"),
    ("%3: i64 = ld %0 type=i64\n %3: i64 = ld %0 type=i64\n ret", "defined twice"),
    ("%3: f64 = bitcast 0x1:i32 type=f64\n ret", "changes the width"),
])  # fmt: skip
def test_the_verifier_names_the_op(ops: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        body("@a:\n" + ops)


def test_a_use_must_be_dominated() -> None:
    with pytest.raises(VerifyError, match="used before it is defined"):
        body("""
            @a:
              %3: i1 = ld %0 type=i1
              brif %3 then=@b otherwise=@c likely=None
            @b:
              %4: i64 = ld %0 type=i64
              br target=@c
            @c:
              st %4, %0
              ret
            """)


@pytest.mark.parametrize("text", [
    "", "function", "function f() -> i7\n@a:\n ret", "function f() -> void\nret",
    "function f() -> void\n@a:\n jump", "function f() -> void\n@a:\n br target=@b",
    "function f() -> void\n@a:\n ret %9",
    "function f() -> void\n@a:\n set 0x1:i8 local=$x.0",
])  # fmt: skip
def test_bad_text_is_an_error(text: str) -> None:
    with pytest.raises(TextError):
        parse_function(text)
