"""-gdb and -s: where a debugger may connect."""

from __future__ import annotations

from pytcg.cli.system.option_values import Options

DEFAULT = "tcp::1234"


def set_gdb(options: Options, text: str) -> None:
    """A character device for GDB."""
    options.gdb = text


def set_gdb_default(options: Options, text: str) -> None:
    """GDB on QEMU's port."""
    del text
    options.gdb = DEFAULT


def set_qtest(options: Options, text: str) -> None:
    """-qtest CHARDEV."""
    options.qtest = text


def set_qtest_log(options: Options, text: str) -> None:
    """-qtest-log FILE."""
    options.qtest_log = text
