"""Standard VGA with the Bochs VBE extension: registers, display memory, and what it shows.

Register files: IBM VGA Technical Reference and FreeVGA. Deviations: monitor timing is not checked
(any register values show something), the light pen is absent, and of the CRTC's address modes
(byte, word, doubleword) the one that goes with the processor's is assumed.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.hw.clock import NS_PER_SECOND, Clock
from pytcg.hw.display.aperture import Aperture
from pytcg.hw.display.crt_numbers import display_end, retrace_start, vertical_total
from pytcg.hw.display.dac import Dac
from pytcg.hw.display.registers import (
    ATT_MASKS,
    ATT_VIDEO_ON,
    CLOCKING_8_DOTS,
    CLOCKING_HALF,
    COLOR_ONLY,
    COLOR_SHIFT,
    CRT_COUNT,
    CRT_PROTECT,
    GFX_MASKS,
    MONO_ONLY,
    SEQ_MASKS,
    Att,
    Crt,
    Gfx,
    MemoryMode,
    Misc,
    Reg,
    Seq,
    Status1,
)
from pytcg.hw.display.vbe import Dispi, Enable, Vbe
from pytcg.hw.display.vram import Vram
from pytcg.hw.state import State, load, save

DOT_CLOCKS = (25_175_000, 28_322_000)
SLOWEST_FRAME = NS_PER_SECOND // 30
FASTEST_FRAME = NS_PER_SECOND // 200
USUAL_FRAME = NS_PER_SECOND // 60


class Vga:
    """The chip. `version` counts the changes of registers that the picture depends on."""

    _FIELDS = ("misc", "feature", "seq_index", "seq", "gfx_index", "gfx", "crt_index", "crt",
               "att_index", "att", "att_flip_flop")  # fmt: skip

    def __init__(self, clock: Clock, vram: Vram) -> None:
        self._clock = clock
        self.vram = vram
        self.dac = Dac()
        self.vbe = Vbe(vram.size)
        self.aperture = Aperture(self, vram)
        self.version = 0
        self.on_mapping: Callable[[], None] = lambda: None
        """Called when `aperture.chained()` may have changed."""
        self._clear()

    def _clear(self) -> None:
        self.misc = self.feature = 0
        self.seq_index = self.gfx_index = self.crt_index = self.att_index = 0
        self.seq, self.gfx = bytearray(8), bytearray(16)
        self.crt, self.att = bytearray(256), bytearray(32)
        self.gfx[Gfx.BIT_MASK] = 0xFF
        self.att_flip_flop = False  # True: the next byte at 3C0h is data

    def reset(self) -> None:
        """Power-on; display memory keeps what it holds."""
        self._clear()
        self.dac.reset()
        self.vbe.reset()
        self.aperture.latch = 0
        self._changed()

    def state(self) -> State:
        self.vram.collect()
        own = save(self, 1, self._FIELDS) | {"latch": self.aperture.latch}
        return own | {"dac": self.dac.state(), "vbe": self.vbe.state()}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.aperture.latch = state["latch"]
        self.dac.restore(state["dac"])
        self.vbe.restore(state["vbe"])
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.on_mapping()

    @property
    def bank_offset(self) -> int:
        """What the window at A0000h is moved by."""
        return self.vbe.bank_offset

    @property
    def frame_number(self) -> int:
        """Frames since power-on: blinking counts them."""
        return self._clock.now() // self.frame_time()

    # --- the VGA's ports -----------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """IN; `Reg` has the numbers."""
        if reg in (MONO_ONLY if self.misc & Misc.COLOR else COLOR_ONLY):
            return 0xFF
        if reg in MONO_ONLY:
            reg += COLOR_SHIFT
        match reg:
            case Reg.CRTC_INDEX:
                return self.crt_index
            case Reg.CRTC_DATA:
                return self.crt[self.crt_index]
            case Reg.STATUS1:
                self.att_flip_flop = False
                return self._status1()
            case Reg.ATTRIBUTE:
                return self.att_index
            case Reg.ATTRIBUTE_READ:
                return self.att[self.att_index & 0x1F]
            case Reg.STATUS0:
                return 0x10  # switch sense: a colour monitor
            case Reg.SEQUENCER_INDEX:
                return self.seq_index
            case Reg.SEQUENCER_DATA:
                return self.seq[self.seq_index]
            case Reg.GRAPHICS_INDEX:
                return self.gfx_index
            case Reg.GRAPHICS_DATA:
                return self.gfx[self.gfx_index]
        return self._read_other(reg)

    def _read_other(self, reg: int) -> int:
        match reg:
            case Reg.DAC_MASK:
                return self.dac.mask
            case Reg.DAC_READ_INDEX:
                return self.dac.direction
            case Reg.DAC_WRITE_INDEX:
                return self.dac.write_index
            case Reg.DAC_DATA:
                return self.dac.read()
            case Reg.FEATURE_READ:
                return self.feature
            case Reg.MISC_READ:
                return self.misc
        return 0xFF

    def write(self, reg: int, value: int) -> None:
        """OUT; `Reg` has the numbers."""
        value &= 0xFF
        if reg in (MONO_ONLY if self.misc & Misc.COLOR else COLOR_ONLY):
            return
        if reg in MONO_ONLY:
            reg += COLOR_SHIFT
        match reg:
            case Reg.CRTC_INDEX:
                self.crt_index = value
            case Reg.CRTC_DATA:
                self._write_crt(value)
            case Reg.STATUS1:
                self.feature = value & 0x10
            case Reg.ATTRIBUTE:
                self._write_attribute(value)
            case Reg.STATUS0:
                self.misc = value & ~0x10
                self._changed()
            case Reg.SEQUENCER_INDEX:
                self.seq_index = value & 7
            case Reg.SEQUENCER_DATA:
                self._put(self.seq, self.seq_index, value & SEQ_MASKS[self.seq_index])
            case Reg.GRAPHICS_INDEX:
                self.gfx_index = value & 15
            case Reg.GRAPHICS_DATA:
                if self.gfx_index < len(GFX_MASKS):
                    self._put(self.gfx, self.gfx_index, value & GFX_MASKS[self.gfx_index])
            case Reg.DAC_MASK:
                self.dac.set_mask(value)
            case Reg.DAC_READ_INDEX:
                self.dac.start_read(value)
            case Reg.DAC_WRITE_INDEX:
                self.dac.start_write(value)
            case Reg.DAC_DATA:
                self.dac.write(value)

    def _put(self, registers: bytearray, index: int, value: int) -> None:
        if registers[index] != value:
            registers[index] = value
            self._changed()

    def _write_crt(self, value: int) -> None:
        index = self.crt_index
        if index >= CRT_COUNT:
            return
        if index <= Crt.OVERFLOW and self.crt[Crt.V_RETRACE_END] & CRT_PROTECT:
            if index != Crt.OVERFLOW:
                return
            value = self.crt[index] & ~0x10 | value & 0x10  # bit 8 of the line compare is free
        if self.crt[index] != value:
            self.crt[index] = value
            self.version += 1

    def _write_attribute(self, value: int) -> None:
        self.att_flip_flop = not self.att_flip_flop
        if self.att_flip_flop:
            self.version += (self.att_index ^ value) & ATT_VIDEO_ON
            self.att_index = value & 0x3F
            return
        index = self.att_index & 0x1F
        if index < Att.MODE and self.att_index & ATT_VIDEO_ON:
            return  # the palette belongs to the display
        if index < len(ATT_MASKS) and self.att[index] != value & ATT_MASKS[index]:
            self.att[index] = value & ATT_MASKS[index]
            self.version += 1

    # --- timing --------------------------------------------------------------------------------

    def frame_time(self) -> int:
        """Nanoseconds of a frame by the registers; 1/60 s where they make no sense."""
        dots = 8 if self.seq[Seq.CLOCKING] & CLOCKING_8_DOTS else 9
        clock = DOT_CLOCKS[self.misc >> 2 & 1] >> (self.seq[Seq.CLOCKING] >> 3 & 1)
        per_line = (self.crt[Crt.H_TOTAL] + 5) * dots
        time: int = per_line * vertical_total(self.crt) * NS_PER_SECOND // clock
        return time if FASTEST_FRAME <= time <= SLOWEST_FRAME else USUAL_FRAME

    def _status1(self) -> int:
        """Where the beam is: computed from the clock."""
        frame, total = self.frame_time(), vertical_total(self.crt)
        now = self._clock.now() % frame
        line, inside = divmod(now * total, frame)
        status = 0
        shown = (self.crt[Crt.H_DISPLAY_END] + 1) * frame // (self.crt[Crt.H_TOTAL] + 5)
        if line >= display_end(self.crt) or inside >= shown:
            status |= Status1.DISABLED
        start = retrace_start(self.crt)
        length = (self.crt[Crt.V_RETRACE_END] - start) & 0xF or 16
        if start <= line < start + length:
            status |= Status1.RETRACE | Status1.DISABLED
        return status

    # --- Bochs VBE -----------------------------------------------------------------------------

    def read_dispi(self, index: int) -> int:
        """A register of the VBE extension."""
        return self.vbe.read(index)

    def write_dispi(self, index: int, value: int) -> None:
        """Store to a register of the VBE extension."""
        began = self.vbe.write(index, value & 0xFFFF)
        if index == Dispi.ENABLE:
            self.dac.set_wide(wide=bool(value & Enable.DAC_8BIT))
        if began:
            self._changed()  # a window that is memory ends before it is cleared
            self._follow_vbe()
        self._changed()

    def _follow_vbe(self) -> None:
        """The VGA's own registers as a VBE mode needs them: its BIOS relies on that."""
        vbe = self.vbe
        if not vbe.regs[Dispi.ENABLE] & Enable.NO_CLEAR:
            self.vram.clear(vbe.pitch * vbe.size[1])
        self.gfx[Gfx.MISC] = self.gfx[Gfx.MISC] & ~0x0C | 0x05  # graphics, 64 KiB at A0000h
        self.crt[Crt.MODE] |= 3
        self.crt[Crt.OFFSET] = vbe.pitch >> 3 & 0xFF
        width, height = vbe.size
        self.crt[Crt.H_DISPLAY_END] = (width >> 3) - 1 & 0xFF
        last = height - 1
        self.crt[Crt.V_DISPLAY_END] = last & 0xFF
        high = (last >> 8 & 1) << 1 | (last >> 9 & 1) << 6
        self.crt[Crt.OVERFLOW] = self.crt[Crt.OVERFLOW] & ~0x42 | high | 0x10
        self.crt[Crt.LINE_COMPARE] = 0xFF
        self.crt[Crt.MAX_SCAN_LINE] = self.crt[Crt.MAX_SCAN_LINE] & ~0x9F | 0x40
        shift = 0 if vbe.depth == 4 else 2
        self.gfx[Gfx.MODE] = self.gfx[Gfx.MODE] & ~0x60 | shift << 5
        if vbe.depth == 4:
            self.seq[Seq.CLOCKING] &= ~CLOCKING_HALF
        else:
            self.seq[Seq.MEMORY_MODE] |= MemoryMode.CHAIN_4
            self.seq[Seq.MAP_MASK] = 0x0F
