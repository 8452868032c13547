"""fw_cfg's ports, and what every machine tells its firmware through it."""

from __future__ import annotations

import struct

from pytcg.hw.chipset.fw_cfg import FwCfg, Key, Memory
from pytcg.machine import layout
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers

WORD_ITEMS = {Key.NB_CPUS: 1, Key.MAX_CPUS: 1}


def make_fw_cfg(board: Backplane, memory: Memory, ram_size: int, *, nographic: bool) -> FwCfg:
    """The device at its ports, with the items that don't depend on options."""
    fw_cfg = board.add(FwCfg(memory))
    data = PortHandlers(fw_cfg.read_data, lambda value: None)
    board.ports.attach_port(data, at.FW_CFG_DATA, size=1)
    board.ports.attach_port(PortHandlers(lambda: 0, fw_cfg.select), at.FW_CFG_SELECTOR, size=2)
    board.attach_wide(at.FW_CFG_DMA, 8, fw_cfg.read_dma, fw_cfg.write_dma)
    fw_cfg.add(Key.RAM_SIZE, struct.pack("<Q", ram_size))
    fw_cfg.add(Key.NOGRAPHIC, struct.pack("<H", nographic))
    fw_cfg.add(Key.IRQ0_OVERRIDE, struct.pack("<L", 1))  # the PIT is on pin 2 of the I/O APIC
    for key, value in WORD_ITEMS.items():
        fw_cfg.add(key, struct.pack("<H", value))
    fw_cfg.add_file("etc/e820", e820(ram_size))
    fw_cfg.add_file("etc/system-states", system_states())
    return fw_cfg


def system_states() -> bytes:
    """A byte for each of S0 to S5: 80h if it is there, with its SLP_TYP for S3 and S4."""
    return bytes([0x80, 0, 0, 0, 0x80 | at.SLEEP_TO_DISK, 0x80])


def e820(ram_size: int) -> bytes:
    """The RAM there is; what firmware reserves of it, it knows itself."""
    low_end = layout.low_memory_end(ram_size)
    rows = [(0, low_end)]
    if ram_size > low_end:
        rows.append((layout.FOUR_GIB, ram_size - low_end))
    return b"".join(struct.pack("<QQL", *row, layout.E820Type.RAM) for row in rows)
