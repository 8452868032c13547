"""A Linux kernel that firmware starts: as fw_cfg items, and an option ROM that fetches them.

The kernel begins at its real-mode entry (Documentation/arch/x86/boot.rst), after the BIOS has set
up display and disks; so old kernels, and programs that only look like kernels, work. OVMF reads the
same items and starts the kernel's EFI stub, without the ROM.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from pytcg.hw.chipset.fw_cfg import Control, FwCfg, Key
from pytcg.machine.layout import HIGH_MEMORY, MIB, low_memory_end
from pytcg.machine.linux import HEADER, SECTOR, LoadError, LoadFlags, is_linux

ROM_FILE: Final = "genroms/linux.bin"
TABLES_RESERVE: Final = 2 * MIB  # below the end of RAM, where firmware puts its tables
OLD_COMMAND_MAGIC: Final = 0xA33F
OLD_INITRD_MAX: Final = 0x37FFFFFF
OLD_END: Final = 0x9A000
LOADER: Final = 0xB0  # type_of_loader: the number assigned to QEMU
PAGE: Final = 4096


@dataclass(frozen=True)
class FirmwareKernel:
    """The pieces of a kernel and where its boot protocol wants them."""

    boot_path: ClassVar[str] = f"/rom@{ROM_FILE}"  # in the boot order

    setup: bytes
    setup_address: int
    payload: bytes
    payload_address: int
    command_line: bytes
    command_line_address: int
    initrd: bytes
    initrd_address: int

    def tell(self, fw_cfg: FwCfg) -> None:
        """Add the items and the ROM."""
        for address, size, data, where, content in (
            (Key.KERNEL_ADDRESS, Key.KERNEL_SIZE, Key.KERNEL_DATA, self.payload_address,
             self.payload),
            (Key.INITRD_ADDRESS, Key.INITRD_SIZE, Key.INITRD_DATA, self.initrd_address,
             self.initrd),
            (Key.COMMAND_LINE_ADDRESS, Key.COMMAND_LINE_SIZE, Key.COMMAND_LINE_DATA,
             self.command_line_address, self.command_line),
            (Key.SETUP_ADDRESS, Key.SETUP_SIZE, Key.SETUP_DATA, self.setup_address, self.setup),
        ):  # fmt: skip
            fw_cfg.add(address, struct.pack("<L", where))
            fw_cfg.add(size, struct.pack("<L", len(content)))
            fw_cfg.add(data, content)
        fw_cfg.add_file(ROM_FILE, self.rom())

    def rom(self) -> bytes:
        """The option ROM: fw_cfg's DMA does the loading, then the setup code is entered."""
        pieces = [(Key.SETUP_DATA, self.setup_address, self.setup),
                  (Key.COMMAND_LINE_DATA, self.command_line_address, self.command_line),
                  (Key.KERNEL_DATA, self.payload_address, self.payload),
                  (Key.INITRD_DATA, self.initrd_address, self.initrd)]  # fmt: skip
        fetch = Control.SELECT | Control.READ
        transfers = [struct.pack(">LLQ", key << 16 | fetch, len(data), where)
                     for key, where, data in pieces if data]  # fmt: skip
        return option_rom(transfers, self.setup_address >> 4)


def make_firmware_kernel(path: str, image: bytes, initrd: bytes, command_line: str,
                         ram_size: int) -> FirmwareKernel:  # fmt: skip
    """Lay a kernel image out as its boot protocol's version says; LoadError."""
    version = struct.unpack_from("<H", image, 0x206)[0] if is_linux(image) else 0
    setup_size = ((image[HEADER] if len(image) > HEADER else 0) or 4) * SECTOR + SECTOR
    if len(image) <= setup_size or image[0x1FE:0x200] != b"\x55\xaa":
        raise LoadError(f"kernel file '{path}' is not a Linux kernel")
    setup = bytearray(image[:setup_size])
    high = version >= 0x200 and bool(image[0x211] & LoadFlags.LOADED_HIGH)
    line = os.fsencode(command_line) + b"\0"
    real, line_address = 0x10000, 0x20000
    if not high or version < 0x202:
        real, line_address = 0x90000, OLD_END - (len(line) + 15 & ~15)
    where = _initrd_address(path, image, version, len(initrd), ram_size)
    if version >= 0x202:
        struct.pack_into("<L", setup, 0x228, line_address)
    else:
        struct.pack_into("<HH", setup, 0x20, OLD_COMMAND_MAGIC, line_address - real)
    if version >= 0x200:
        setup[0x210] = LOADER
        struct.pack_into("<LL", setup, 0x218, where, len(initrd))
    if version >= 0x201:
        setup[0x211] |= LoadFlags.CAN_USE_HEAP
        struct.pack_into("<H", setup, 0x224, min(line_address - real, 0x10000) - 0x200)
    payload_address = HIGH_MEMORY if high else 0x10000
    if high and payload_address + len(image) > (where or low_memory_end(ram_size)):
        raise LoadError(f"not enough memory for kernel '{path}' and its initrd")
    return FirmwareKernel(bytes(setup), real, image[setup_size:], payload_address, line,
                          line_address, initrd, where)  # fmt: skip


def _initrd_address(path: str, image: bytes, version: int, size: int, ram_size: int) -> int:
    if not size:
        return 0
    if version < 0x200:
        raise LoadError(f"kernel file '{path}' is too old to load an initrd")
    highest: int = OLD_INITRD_MAX
    if version >= 0x203:
        highest = struct.unpack_from("<L", image, 0x22C)[0]
    top = min(low_memory_end(ram_size) - TABLES_RESERVE, highest + 1)
    where = (top - size) & -PAGE
    if where < HIGH_MEMORY:
        raise LoadError(f"not enough memory for kernel '{path}' and its initrd")
    return where


CODE: Final = 0x40  # where the ROM's program begins
PNP: Final = 0x20
PROGRAM: Final = bytes.fromhex(
    "fa fc"                 # cli; cld
    "8cc8 8ed8"             # mov ax, cs; mov ds, ax
    "660fb7d8 66c1e304"     # movzx ebx, ax; shl ebx, 4
    "be 0000 b9 0000"       # mov si, transfers; mov cx, count
    "660fb7c6 6601d8"       # 1: movzx eax, si; add eax, ebx: the transfer's physical address
    "660fc8"                # bswap eax
    "ba1805 66ef"           # mov dx, 518h; out dx, eax: fw_cfg does it at once
    "83c610 49 75eb"        # add si, 16; dec cx; jnz 1b
    "b8 0000"               # mov ax, setup's segment
    "8ed8 8ec0 8ee0 8ee8 8ed0"  # mov ds, es, fs, gs, ss, ax
    "bcf0ff"                # mov sp, fff0h
    "ea 0000 0000"          # jmp setup's segment + 20h:0
)  # fmt: skip
TRANSFERS_AT: Final = 15  # offsets in it of what is filled in
COUNT_AT: Final = 18
SEGMENT_AT: Final = 42
ENTRY_AT: Final = 58


def option_rom(transfers: list[bytes], segment: int) -> bytes:
    """A ROM with a PnP header (PnP BIOS 1.0a, 3.2) and a bootstrap entry vector."""
    program = bytearray(PROGRAM)
    table = CODE + len(program) + 15 & ~15
    struct.pack_into("<H", program, TRANSFERS_AT, table)
    struct.pack_into("<H", program, COUNT_AT, len(transfers))
    struct.pack_into("<H", program, SEGMENT_AT, segment)
    struct.pack_into("<HH", program, ENTRY_AT, 0, segment + 0x20)
    name = b"Linux kernel\0"
    texts = table + 16 * len(transfers)
    rom = bytearray(-(-(texts + len(name)) // 512) * 512)
    rom[0:3] = 0x55, 0xAA, len(rom) // 512
    rom[3] = 0xCB  # the initialisation has nothing to do: retf
    struct.pack_into("<H", rom, 0x1A, PNP)
    rom[PNP : PNP + 6] = b"$PnP\x01\x02"
    struct.pack_into("<HH", rom, PNP + 0x0E, texts, texts)
    struct.pack_into("<H", rom, PNP + 0x1A, CODE)
    rom[CODE : CODE + len(program)] = program
    rom[table:texts] = b"".join(transfers)
    rom[texts : texts + len(name)] = name
    rom[PNP + 9] = -sum(rom[PNP : PNP + 32]) & 0xFF
    rom[6] = -sum(rom) & 0xFF
    return bytes(rom)
