"""`-kernel`: what kind of kernel a file is, and how the processor enters it without firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytcg.machine import layout
from pytcg.machine import pc_map as at
from pytcg.machine.linux import LinuxBoot, Memory, is_linux, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytcg.machine.layout import E820Entry
    from pytcg.machine.linux_rom import FirmwareKernel
    from pytcg.machine.runner import Vcpu


class Bootable(Protocol):
    """A kernel that was read and checked."""

    def start(self, memory: Memory, e820: Sequence[E820Entry], rsdp: int, vcpu: Vcpu) -> None:
        """Load it and point the processor, fresh from reset, at its entry."""
        ...


def open_kernel(path: str, initrd: str | None, command_line: str, ram_size: int) -> Bootable:
    """A bzImage, a multiboot image or an ELF file with a PVH entry; LoadError."""
    image = read_file(path, "kernel", ram_size)
    words = path, image, initrd, command_line, ram_size
    if is_linux(image):
        return LinuxBoot.make(*words)
    from pytcg.machine.multiboot import open_multiboot
    from pytcg.machine.pvh import open_pvh

    return open_multiboot(*words) or open_pvh(*words) or LinuxBoot.make(*words)


def open_firmware_kernel(path: str, initrd: str | None, command_line: str,
                         ram_size: int) -> FirmwareKernel:  # fmt: skip
    """A kernel for firmware to start; LoadError."""
    from pytcg.machine.linux_rom import make_firmware_kernel

    image = read_file(path, "kernel", ram_size)
    ramdisk = read_file(initrd, "initrd", ram_size) if initrd is not None else b""
    return make_firmware_kernel(path, image, ramdisk, command_line, ram_size)


def boot_kernel(kernel: Bootable, memory: Memory, ram_size: int, vcpu: Vcpu) -> None:
    """What a board's `boot` does."""
    kernel.start(memory, layout.e820_map(ram_size), at.ACPI_TABLES, vcpu)
