"""-rtc: what the real-time clock shows at power-on."""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING, Final

from pytcg.cli.system.option_values import OptionError, only, properties

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options

CLOCKS: Final = ("host", "rt", "vm")
FORMATS: Final = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


def set_rtc(options: Options, text: str) -> None:
    """-rtc [base=]utc|localtime|DATETIME[,clock=host|rt|vm][,driftfix=none|slew]"""
    values = properties(text, "base")
    only("-rtc", values, ["base", "clock", "driftfix"])
    options.epoch = _base(values.get("base", "utc"))
    clock = values.get("clock", "host")
    if clock not in CLOCKS:
        raise OptionError(f"-rtc {text}: invalid option value '{clock}'")
    drift = values.get("driftfix", "none")
    if drift not in ("none", "slew"):
        raise OptionError(f"-rtc {text}: invalid option '{drift}' for driftfix")


def _base(text: str) -> int | None:
    """Seconds since 1970 as the clock decodes them; None: the host's UTC at power-on."""
    if text == "utc":
        return None
    if text == "localtime":
        now = time.localtime()
        return int(time.time()) + now.tm_gmtoff
    for form in FORMATS:
        try:
            return calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
    raise OptionError(f"-rtc base={text}: invalid datetime format; valid formats:"
                      " '2006-06-17T16:01:21' or '2006-06-17'")  # fmt: skip
