"""From what to boot: CMOS letters for all firmware, paths of devices for SeaBIOS and OVMF."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytcg.hw.chipset.fw_cfg import FwCfg, Key

if TYPE_CHECKING:
    from pytcg.hw.core.mc146818 import Mc146818

DEFAULT_ORDER: Final = "cad"
LETTERS: Final = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4}
MOST: Final = 3
ORDER_12: Final = 0x3D  # CMOS: first and second device
ORDER_3: Final = 0x38  # third device; bit 0: don't check floppies' signatures
HALT: Final = "HALT"  # in the list of paths: nothing else is to be tried


class BootOrderError(ValueError):
    """Letters that no PC understands; the text says which."""


@dataclass
class BootOptions:
    """`-boot`. Times in milliseconds; None: the firmware's own."""

    order: str = DEFAULT_ORDER
    once: str | None = None
    menu: bool = False
    splash: bytes | None = None
    splash_time: int | None = None
    reboot_timeout: int | None = None
    strict: bool = False


@dataclass
class BootOrder:
    """What the options and the devices' `bootindex` come to."""

    options: BootOptions
    devices: dict[int, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)  # what goes before all of them
    _booted: bool = False

    def add(self, index: int, path: str) -> None:
        """A device, by its OpenFirmware path; a lower index goes first. BootOrderError if taken."""
        if index in self.devices:
            raise BootOrderError(f"The bootindex {index} has already been used")
        self.devices[index] = path

    def tell(self, rtc: Mc146818, fw_cfg: FwCfg) -> None:
        """Before each reset: `once` counts for the first boot only."""
        once = self.options.once if not self._booted else None
        self._booted = True
        first_two, third = cmos_order(once or self.options.order)
        rtc.set_cmos(ORDER_12, first_two)
        rtc.set_cmos(ORDER_3, third)
        paths = self.before + [self.devices[index] for index in sorted(self.devices)]
        if self.options.strict:
            paths.append(HALT)
        fw_cfg.add_file("bootorder", ("\n".join(paths) + "\0").encode() if paths else b"")
        fw_cfg.add(Key.BOOT_MENU, struct.pack("<H", self.options.menu))
        if self.options.splash_time is not None:
            wait = struct.pack("<H", self.options.splash_time)
            fw_cfg.add_file("etc/boot-menu-wait", wait)
        if self.options.splash is not None:
            kind = "bmp" if self.options.splash.startswith(b"BM") else "jpg"
            fw_cfg.add_file(f"bootsplash.{kind}", self.options.splash)
        timeout = self.options.reboot_timeout
        forever = 0xFFFFFFFF
        value = struct.pack("<L", forever if timeout is None else timeout & forever)
        fw_cfg.add_file("etc/boot-fail-wait", value)


def cmos_order(letters: str) -> tuple[int, int]:
    """The two CMOS bytes; BootOrderError."""
    if len(letters) > MOST:
        raise BootOrderError("Too many boot devices for PC")
    for letter in letters:
        if letter not in LETTERS:
            raise BootOrderError(f"Invalid boot device for PC: '{letter}'")
        if letters.count(letter) > 1:
            raise BootOrderError(f"Boot device '{letter}' was given twice")
    codes = [LETTERS[letter] for letter in letters] + [0] * MOST
    return codes[1] << 4 | codes[0], codes[2] << 4
