"""-qmp and -S: who controls the machine."""

from __future__ import annotations

from pytcg.cli.system.option_values import Options


def set_qmp(options: Options, text: str) -> None:
    """A character device that speaks QMP."""
    options.qmp.append(text)


def set_paused(options: Options, text: str) -> None:
    """Wait for `cont`."""
    del text
    options.paused = True
