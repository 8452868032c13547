"""Names of the VGA's registers and of their bits (IBM VGA Technical Reference; FreeVGA).

`Reg` numbers are port addresses from 3B0h on; they are the chip's own, whatever bus it sits on.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits


class Reg(IntEnum):
    """Ports, less 3B0h. The CRTC and the status are at 3Bxh on monochrome, 3Dxh on colour."""

    CRTC_INDEX_MONO = 0x04
    CRTC_DATA_MONO = 0x05
    STATUS1_MONO = 0x0A  # read; the feature control register when written
    ATTRIBUTE = 0x10
    ATTRIBUTE_READ = 0x11
    STATUS0 = 0x12  # read; the miscellaneous output register when written
    SEQUENCER_INDEX = 0x14
    SEQUENCER_DATA = 0x15
    DAC_MASK = 0x16
    DAC_READ_INDEX = 0x17  # DAC state when read
    DAC_WRITE_INDEX = 0x18
    DAC_DATA = 0x19
    FEATURE_READ = 0x1A
    MISC_READ = 0x1C
    GRAPHICS_INDEX = 0x1E
    GRAPHICS_DATA = 0x1F
    CRTC_INDEX = 0x24
    CRTC_DATA = 0x25
    STATUS1 = 0x2A


COLOR_SHIFT: Final = Reg.CRTC_INDEX - Reg.CRTC_INDEX_MONO
MONO_ONLY: Final = frozenset({Reg.CRTC_INDEX_MONO, Reg.CRTC_DATA_MONO, Reg.STATUS1_MONO})
COLOR_ONLY: Final = frozenset({Reg.CRTC_INDEX, Reg.CRTC_DATA, Reg.STATUS1})


@register_bits
class Misc(IntFlag):
    """Miscellaneous output register."""

    COLOR = 0x01  # CRTC at 3Dxh
    RAM = 0x02  # display memory answers the processor
    CLOCK_28 = 0x04
    PAGE = 0x20


@register_bits
class Status1(IntFlag):
    """Input status register 1."""

    DISABLED = 0x01  # in a blanking interval
    RETRACE = 0x08


class Seq(IntEnum):
    """Sequencer registers."""

    RESET = 0
    CLOCKING = 1
    MAP_MASK = 2
    FONT = 3
    MEMORY_MODE = 4


SEQ_MASKS: Final = bytes((0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0, 0, 0xFF))
CLOCKING_8_DOTS: Final = 0x01
CLOCKING_HALF: Final = 0x08
CLOCKING_SCREEN_OFF: Final = 0x20


@register_bits
class MemoryMode(IntFlag):
    """Sequencer register 4."""

    EXTENDED = 0x02
    NO_ODD_EVEN = 0x04
    CHAIN_4 = 0x08


class Gfx(IntEnum):
    """Graphics controller registers."""

    SET_RESET = 0
    ENABLE_SET_RESET = 1
    COLOR_COMPARE = 2
    ROTATE = 3  # and the logical function
    READ_MAP = 4
    MODE = 5
    MISC = 6
    COLOR_CARE = 7
    BIT_MASK = 8


GFX_MASKS: Final = bytes((0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF))
MODE_READ_COMPARE: Final = 0x08
MODE_ODD_EVEN: Final = 0x10
MODE_INTERLEAVE: Final = 0x20
MODE_256: Final = 0x40
MISC_GRAPHICS: Final = 0x01
MISC_CHAIN: Final = 0x02


class Crt(IntEnum):
    """CRT controller registers."""

    H_TOTAL = 0x00
    H_DISPLAY_END = 0x01
    OVERFLOW = 0x07
    V_TOTAL = 0x06
    PRESET_ROW = 0x08
    MAX_SCAN_LINE = 0x09
    CURSOR_START = 0x0A
    CURSOR_END = 0x0B
    START_HIGH = 0x0C
    START_LOW = 0x0D
    CURSOR_HIGH = 0x0E
    CURSOR_LOW = 0x0F
    V_RETRACE_START = 0x10
    V_RETRACE_END = 0x11
    V_DISPLAY_END = 0x12
    OFFSET = 0x13
    UNDERLINE = 0x14
    MODE = 0x17
    LINE_COMPARE = 0x18


CRT_COUNT: Final = 0x19
CRT_PROTECT: Final = 0x80  # of V_RETRACE_END
CURSOR_OFF: Final = 0x20  # of CURSOR_START


class Att(IntEnum):
    """Attribute controller registers; 0 to 15 are the palette."""

    MODE = 0x10
    OVERSCAN = 0x11
    PLANES = 0x12
    PANNING = 0x13
    COLOR_SELECT = 0x14


ATT_MASKS: Final = bytes((0x3F,) * 16 + (0xEF, 0xFF, 0x3F, 0x0F, 0x0F))
ATT_VIDEO_ON: Final = 0x20  # of the index: the palette is the display's, not the processor's


@register_bits
class AttMode(IntFlag):
    """Attribute mode control."""

    GRAPHICS = 0x01
    MONO = 0x02
    LINE_GRAPHICS = 0x04
    BLINK = 0x08
    PAN_SPLIT = 0x20
    PIXELS_8 = 0x40
    PALETTE_5_4 = 0x80
