"""From a record to its form: the table's row, and the handler there."""

from __future__ import annotations

from pytcg.exec.layout import FORM_SIZE, ExecEnv, Form, Record
from pytcg_native import native, ptr, u32, u64


@native(inline=True)
def form_at(env: ExecEnv, index: u32) -> Form:
    """A form by its number."""
    return Form(env.form_list + u64(index) * FORM_SIZE)


@native(inline=True)
def record_code(env: ExecEnv, rec: Record) -> ptr:
    """The code of a record's form; NULL if it has to be compiled first."""
    return ptr(form_at(env, rec.form).code)
