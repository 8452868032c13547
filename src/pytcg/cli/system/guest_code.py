"""What the processor runs first: a kernel at once, firmware, or firmware that starts the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytcg.cli.folders import guest_folder
from pytcg.machine.boot import Bootable, open_firmware_kernel, open_kernel
from pytcg.machine.linux import NeedsFirmware, is_linux, read_file
from pytcg.machine.roms import DEFAULT_BIOS, RomFinder

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.linux_rom import FirmwareKernel


class GuestCode(NamedTuple):
    """At most one of the kernels; a ROM, unless it lies in flash memory or isn't there."""

    kernel: Bootable | None
    firmware_kernel: FirmwareKernel | None
    bios: bytes | None


def open_guest_code(options: Options) -> GuestCode:
    """Read what the options name; LoadError, RomError.

    A kernel starts without firmware, at its 32- or 64-bit entry, unless somebody asked for a
    particular firmware, or somebody watches the display, which firmware sets up, or the kernel
    can't do without.
    """
    bios = _open_bios(options)
    if options.kernel is None:
        return GuestCode(None, None, bios)
    words = options.kernel, options.initrd, options.append or "", options.memory
    asked = options.bios is not None or options.flashes
    watched = bios is not None and any(
        option.settings.address != "none" for option in options.vnc)
    if (asked or watched) and is_linux(read_file(options.kernel, "kernel", options.memory)):
        return GuestCode(None, open_firmware_kernel(*words), bios)
    try:
        return GuestCode(open_kernel(*words), None, bios)
    except NeedsFirmware:
        if bios is None:
            raise
    return GuestCode(None, open_firmware_kernel(*words), bios)


def _open_bios(options: Options) -> bytes | None:
    """The firmware. A kernel may start without, so there it may be missing if nobody named it."""
    if options.flashes:
        return None
    finder = RomFinder(options.rom_folders, guest_folder())
    if options.kernel is not None and options.bios is None and finder.find(DEFAULT_BIOS) is None:
        return None
    return finder.read_bios(options.bios)
