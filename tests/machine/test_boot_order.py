"""From what to boot."""

from __future__ import annotations

import pytest

from hw.test_fw_cfg import Memory
from pytcg.hw.chipset.fw_cfg import FwCfg
from pytcg.hw.clock import FakeClock
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.machine.boot_order import BootOptions, BootOrder, BootOrderError, cmos_order


def test_letters_become_qemus_cmos_bytes() -> None:
    assert cmos_order("cad") == (0x12, 0x30)
    assert cmos_order("dc") == (0x23, 0x00)
    assert cmos_order("") == (0, 0)


@pytest.mark.parametrize(
    ("letters", "message"),
    [("cadn", "Too many"), ("x", "'x'"), ("cc", "'c' was given twice")],
)
def test_letters_no_pc_understands(letters: str, message: str) -> None:
    with pytest.raises(BootOrderError, match=message):
        cmos_order(letters)


def test_once_counts_once_and_indices_sort_the_devices() -> None:
    rtc, fw_cfg = Mc146818(FakeClock(), epoch=0), FwCfg(Memory())
    order = BootOrder(BootOptions(order="c", once="d", strict=True, splash_time=3000, menu=True))
    order.add(2, "/pci@i0cf8/scsi@3/disk@0,0")
    order.add(1, "/pci@i0cf8/ethernet@4/ethernet-phy@0")
    with pytest.raises(BootOrderError, match="bootindex 2"):
        order.add(2, "x")
    seen = []
    for _ in range(2):
        order.tell(rtc, fw_cfg)
        seen.append(rtc.cmos[0x3D])
    assert seen == [3, 2]
    assert fw_cfg.file("bootorder") == (
        b"/pci@i0cf8/ethernet@4/ethernet-phy@0\n/pci@i0cf8/scsi@3/disk@0,0\nHALT\0"
    )
    assert fw_cfg.file("etc/boot-menu-wait") == b"\xb8\x0b"
    assert fw_cfg.file("etc/boot-fail-wait") == b"\xff\xff\xff\xff"
