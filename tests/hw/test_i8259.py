"""8259A: the pair as a PC programs it, and the modes of the datasheet."""

from __future__ import annotations

import pytest

from pytcg.hw.core.i8259 import I8259, I8259Pair

OCW3_READ_IRR, OCW3_READ_ISR, OCW3_POLL = 0x0A, 0x0B, 0x0C
EOI, SPECIFIC_EOI = 0x20, 0x60


def init(chip: I8259, base: int, icw3: int, icw4: int = 1) -> None:
    for reg, value in ((0, 0x11), (1, base), (1, icw3), (1, icw4)):
        chip.write(reg, value)


@pytest.fixture
def pic() -> I8259Pair:
    """As Linux sets it up: vectors 0x30-0x3f, nothing masked."""
    pair = I8259Pair()
    init(pair.master, 0x30, 0x04)
    init(pair.slave, 0x38, 0x02)
    return pair


def test_vector_is_base_plus_level(pic: I8259Pair) -> None:
    pic.set_irq(4, True)
    assert pic.intr.level
    assert pic.acknowledge() == 0x34
    assert not pic.intr.level


def test_mask_register_probe_reads_back(pic: I8259Pair) -> None:
    pic.master.write(1, 0xFB)
    assert pic.master.read(1) == 0xFB


def test_a_masked_request_waits_in_irr(pic: I8259Pair) -> None:
    pic.master.write(1, 0xFF)
    pic.set_irq(1, True)
    pic.master.write(0, OCW3_READ_IRR)
    assert pic.master.read(0) == 0x02
    assert not pic.intr.level
    pic.master.write(1, 0x00)
    assert pic.acknowledge() == 0x31


def test_slave_request_comes_through_ir2(pic: I8259Pair) -> None:
    pic.set_irq(12, True)
    assert pic.acknowledge() == 0x3C
    pic.master.write(0, OCW3_READ_ISR)
    pic.slave.write(0, OCW3_READ_ISR)
    assert (pic.master.read(0), pic.slave.read(0)) == (0x04, 0x10)


def test_second_slave_request_follows_after_both_eois(pic: I8259Pair) -> None:
    pic.set_irq(8, True)
    pic.set_irq(9, True)
    assert pic.acknowledge() == 0x38
    pic.slave.write(0, EOI)
    pic.master.write(0, EOI)
    assert pic.acknowledge() == 0x39


def test_an_edge_interrupts_once_until_the_input_falls(pic: I8259Pair) -> None:
    pic.set_irq(3, True)
    pic.acknowledge()
    pic.master.write(0, EOI)
    assert not pic.intr.level
    pic.set_irq(3, False)
    pic.set_irq(3, True)
    assert pic.intr.level


def test_elcr_makes_an_input_level_triggered(pic: I8259Pair) -> None:
    pic.slave.write(2, 0xFF)
    assert pic.slave.read(2) == 0xDE
    pic.set_irq(11, True)
    assert pic.acknowledge() == 0x3B
    assert not pic.intr.level
    pic.slave.write(0, EOI)
    pic.master.write(0, EOI)
    assert pic.acknowledge() == 0x3B
    pic.set_irq(11, False)
    pic.slave.write(0, EOI)
    pic.master.write(0, EOI)
    assert not pic.intr.level


def test_timer_and_cascade_stay_edge_triggered(pic: I8259Pair) -> None:
    pic.master.write(2, 0xFF)
    assert pic.master.read(2) == 0xF8


def test_lower_priority_waits_for_eoi(pic: I8259Pair) -> None:
    pic.set_irq(3, True)
    pic.acknowledge()
    pic.set_irq(5, True)
    assert not pic.intr.level
    pic.set_irq(1, True)
    assert pic.acknowledge() == 0x31
    pic.master.write(0, EOI)
    pic.master.write(0, EOI)
    assert pic.acknowledge() == 0x35


def test_a_request_gone_before_inta_is_spurious_irq7(pic: I8259Pair) -> None:
    pic.set_irq(4, True)
    pic.set_irq(4, False)
    assert not pic.intr.level
    assert pic.acknowledge() == 0x37
    pic.master.write(0, OCW3_READ_ISR)
    assert pic.master.read(0) == 0


def test_a_slave_request_gone_during_inta_is_spurious_irq15(pic: I8259Pair) -> None:
    pic.set_irq(10, True)
    # The slave's input falls between the two INTA cycles: the master has answered already.
    pic.slave.irr = 0
    assert pic.acknowledge() == 0x3F
    pic.master.write(0, OCW3_READ_ISR)
    pic.slave.write(0, OCW3_READ_ISR)
    assert (pic.master.read(0), pic.slave.read(0)) == (0x04, 0)


def test_specific_eoi_clears_its_level_only(pic: I8259Pair) -> None:
    pic.set_irq(6, True)
    pic.acknowledge()
    pic.set_irq(0, True)
    pic.acknowledge()
    pic.master.write(0, SPECIFIC_EOI | 6)
    pic.master.write(0, OCW3_READ_ISR)
    assert pic.master.read(0) == 0x01


def test_auto_eoi_leaves_nothing_in_service() -> None:
    chip = I8259()
    init(chip, 0x20, 0, icw4=0x03)
    chip.set_irq(0, True)
    assert chip.acknowledge() == 0x20
    chip.write(0, OCW3_READ_ISR)
    assert chip.read(0) == 0


def test_slave_auto_eoi_gives_the_master_a_new_edge() -> None:
    pair = I8259Pair()
    init(pair.master, 0x20, 4, icw4=3)
    init(pair.slave, 0x28, 2, icw4=3)
    pair.set_irq(8, True)
    pair.set_irq(9, True)
    assert [pair.acknowledge(), pair.acknowledge()] == [0x28, 0x29]
    assert not pair.intr.level


def test_rotate_on_eoi_makes_the_served_level_lowest(pic: I8259Pair) -> None:
    pic.set_irq(1, True)
    pic.acknowledge()
    pic.master.write(0, 0xA0)
    pic.set_irq(1, False)
    pic.set_irq(1, True)
    pic.set_irq(5, True)
    assert pic.acknowledge() == 0x35


def test_set_priority_command(pic: I8259Pair) -> None:
    pic.master.write(0, 0xC0 | 4)
    pic.set_irq(0, True)
    pic.set_irq(5, True)
    assert pic.acknowledge() == 0x35


def test_rotation_in_auto_eoi_mode() -> None:
    chip = I8259()
    init(chip, 0x20, 0, icw4=3)
    chip.write(0, 0x80)
    chip.set_irq(0, True)
    chip.acknowledge()
    chip.set_irq(0, False)
    chip.set_irq(0, True)
    chip.set_irq(1, True)
    assert chip.acknowledge() == 0x21


def test_special_mask_mode_lets_lower_levels_through(pic: I8259Pair) -> None:
    pic.set_irq(1, True)
    pic.acknowledge()
    pic.set_irq(5, True)
    pic.master.write(1, 0x02)
    assert not pic.intr.level
    pic.master.write(0, 0x68)
    assert pic.acknowledge() == 0x35
    pic.master.write(0, EOI)  # must not touch the masked level 1
    pic.master.write(0, OCW3_READ_ISR)
    assert pic.master.read(0) == 0x02


def test_poll_command_acknowledges(pic: I8259Pair) -> None:
    pic.set_irq(3, True)
    pic.master.write(0, OCW3_POLL)
    assert pic.master.read(0) == 0x83
    assert not pic.intr.level
    pic.master.write(0, OCW3_POLL)
    assert pic.master.read(0) == 0x00
    pic.master.write(0, OCW3_READ_ISR)
    assert pic.master.read(0) == 0x08


def test_icw1_clears_mask_service_and_latched_edges(pic: I8259Pair) -> None:
    pic.set_irq(3, True)
    pic.acknowledge()
    pic.set_irq(4, True)
    pic.master.write(1, 0xFF)
    init(pic.master, 0x40, 4)
    assert pic.master.read(1) == 0
    assert not pic.intr.level
    pic.set_irq(4, False)
    pic.set_irq(4, True)
    assert pic.acknowledge() == 0x44


def test_special_fully_nested_master_takes_a_higher_slave_request() -> None:
    pair = I8259Pair()
    init(pair.master, 0x20, 4, icw4=0x11)
    init(pair.slave, 0x28, 2)
    pair.set_irq(12, True)
    assert pair.acknowledge() == 0x2C
    pair.set_irq(9, True)
    assert pair.intr.level
    assert pair.acknowledge() == 0x29
