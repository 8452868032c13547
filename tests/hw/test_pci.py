"""PCI functions, their windows and interrupts, and the bus (PCI Local Bus 3.0)."""

from __future__ import annotations

import pytest

from hw.dma import DmaBytes
from pytcg.hw.pci.bar import Bar, BarType
from pytcg.hw.pci.bus import ConfigMechanism1, DmaError, PciBus, swizzle
from pytcg.hw.pci.config import Command, Reg, Status
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import StateError

BAR0, BAR1, BAR2 = 0x10, 0x14, 0x18


class Board(DmaBytes):
    """Address spaces that note their windows, 64 KiB of memory, and the messages that arrive."""

    def __init__(self) -> None:
        self.windows: dict[int, Bar] = {}
        super().__init__(0x10000)
        self.messages: list[tuple[int, int]] = []
        self.bus = PciBus(self, self, lambda address, data: self.messages.append((address, data)))

    def map_bar(self, bar: Bar) -> None:
        assert bar.base is not None
        self.windows[bar.index] = bar

    def unmap_bar(self, bar: Bar) -> None:
        del self.windows[bar.index]


class Card(PciDevice):
    """An I/O window, a 64-bit memory window with MSI-X in it, INTA."""

    identity = Identity(0x1234, 0x5678, class_code=0x010802, revision=3, pin=1)

    def __init__(self) -> None:
        super().__init__()
        self.add_bar(0, 0x20, BarType.IO, lambda at, size: at, lambda at, size, value: None)
        bar = self.add_bar(2, 0x4000, BarType.MEMORY_64, lambda at, size: at,
                           lambda at, size, value: None)
        self.add_msix(bar, 4, table=0x1000, pba=0x1800)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def card(board: Board) -> Card:
    made = Card()
    board.bus.plug(made, 3)
    return made


def command(card: PciDevice, *bits: Command) -> None:
    card.write_config(Reg.COMMAND, 2, sum(bits))


def msix_control(card: Card, value: int) -> None:
    card.write_config(card.read_config(Reg.CAPABILITIES, 1) + 2, 2, value)


def table_write(card: Card, vector: int, address: int, data: int, control: int) -> None:
    for index, word in enumerate((address & 0xFFFFFFFF, address >> 32, data, control)):
        card.bars[1].write(0x1000 + vector * 16 + index * 4, 4, word)


def test_the_identity_is_read_only(card: Card) -> None:
    card.write_config(Reg.VENDOR_ID, 4, 0)
    assert card.read_config(Reg.VENDOR_ID, 4) == 0x56781234
    assert card.read_config(Reg.REVISION_ID, 4) == 0x01080203


def test_writing_ones_to_a_base_address_tells_its_size(card: Card) -> None:
    card.write_config(BAR0, 4, 0xFFFFFFFF)
    assert card.read_config(BAR0, 4) == 0xFFFFFFE1
    card.write_config(BAR2, 4, 0xFFFFFFFF)
    card.write_config(BAR2 + 4, 4, 0xFFFFFFFF)
    assert card.read_config(BAR2, 4) == 0xFFFFC004
    assert card.read_config(BAR2 + 4, 4) == 0xFFFFFFFF
    card.write_config(BAR1, 4, 0xFFFFFFFF)
    assert card.read_config(BAR1, 4) == 0, "there is no such window"


def test_a_window_answers_only_while_its_space_is_enabled(board: Board, card: Card) -> None:
    card.write_config(BAR0, 4, 0xC000)
    assert not board.windows
    command(card, Command.MEMORY)
    assert not board.windows
    command(card, Command.IO)
    assert board.windows[0].base == 0xC000
    command(card)
    assert not board.windows


def test_a_64_bit_window_moves_above_4_gib(board: Board, card: Card) -> None:
    command(card, Command.MEMORY)
    card.write_config(BAR2, 4, 0xF0000000)
    assert board.windows[2].base == 0xF0000000
    card.write_config(BAR2 + 4, 4, 1)
    assert board.windows[2].base == 0x1_F0000000


def test_a_window_that_is_being_sized_answers_nowhere(board: Board, card: Card) -> None:
    command(card, Command.IO)
    card.write_config(BAR0, 4, 0xFFFFFFFF)
    assert not board.windows


def test_the_pin_is_quiet_while_disabled_and_the_status_bit_tells(board: Board, card: Card) -> None:
    pirq = board.bus.pirq[swizzle(3, 1)]
    command(card, Command.INTX_DISABLE)
    card.set_intx(True)
    assert not pirq.level
    assert card.read_config(Reg.STATUS, 2) & Status.INTERRUPT
    command(card)
    assert pirq.level
    card.set_intx(False)
    assert not pirq.level


def test_devices_share_an_interrupt_line(board: Board, card: Card) -> None:
    other = Card()
    board.bus.plug(other, 7)  # four slots on: the same PIRQ
    pirq = board.bus.pirq[swizzle(3, 1)]
    card.set_intx(True)
    other.set_intx(True)
    card.set_intx(False)
    assert pirq.level
    other.set_intx(False)
    assert not pirq.level


def test_msix_sends_the_vectors_message_in_place_of_the_pin(board: Board, card: Card) -> None:
    assert not card.notify(1), "messages are off: the pin is to be used"
    command(card, Command.MEMORY, Command.BUS_MASTER)
    msix_control(card, 0x8000)
    table_write(card, 1, 0xFEE00000, 0x41, 0)
    assert card.notify(1)
    assert board.messages == [(0xFEE00000, 0x41)]
    card.set_intx(True)
    assert not any(line.level for line in board.bus.pirq)


def test_a_masked_vector_stays_pending_until_unmasked(board: Board, card: Card) -> None:
    command(card, Command.MEMORY, Command.BUS_MASTER)
    msix_control(card, 0x8000)
    table_write(card, 2, 0xFEE00000, 0x42, 1)
    card.notify(2)
    assert not board.messages
    assert card.bars[1].read(0x1800, 4) == 1 << 2
    table_write(card, 2, 0xFEE00000, 0x42, 0)
    assert board.messages == [(0xFEE00000, 0x42)]
    assert card.bars[1].read(0x1800, 4) == 0


def test_the_function_mask_holds_every_vector_back(board: Board, card: Card) -> None:
    command(card, Command.MEMORY, Command.BUS_MASTER)
    msix_control(card, 0xC000)
    table_write(card, 0, 0xFEE00000, 0x40, 0)
    card.notify(0)
    assert not board.messages
    msix_control(card, 0x8000)
    assert board.messages == [(0xFEE00000, 0x40)]


def test_the_rest_of_a_window_with_msix_is_the_devices(card: Card) -> None:
    assert card.bars[1].read(0x20, 4) == 0x20
    assert card.bars[1].read(0x103C, 4) == 1, "the last vector's mask"


def test_msi_sends_its_one_message(board: Board) -> None:
    card = PlainMsi()
    board.bus.plug(card, 5)
    command(card, Command.BUS_MASTER)
    place = card.read_config(Reg.CAPABILITIES, 1)
    card.write_config(place + 4, 4, 0xFEE01000)
    card.write_config(place + 12, 2, 0x4051)
    card.write_config(place + 2, 2, 1)
    assert card.notify()
    assert board.messages == [(0xFEE01000, 0x4051)]


class PlainMsi(PciDevice):
    """A function with nothing but MSI."""

    identity = Identity(0x1234, 0x0001, class_code=0xFF0000)

    def __init__(self) -> None:
        super().__init__()
        self.add_msi()


def test_no_dma_before_bus_mastering_is_enabled(board: Board, card: Card) -> None:
    with pytest.raises(DmaError):
        card.dma_write(0x100, b"x")
    command(card, Command.BUS_MASTER)
    card.dma_write(0x100, b"x")
    assert card.dma_read(0x100, 1) == b"x"


def test_dma_beyond_memory_sets_received_master_abort_until_cleared(card: Card) -> None:
    command(card, Command.BUS_MASTER)
    with pytest.raises(DmaError):
        card.dma_read(0x20000, 4)
    assert card.read_config(Reg.STATUS, 2) & Status.RECEIVED_MASTER_ABORT
    card.write_config(Reg.STATUS, 2, Status.RECEIVED_MASTER_ABORT)
    assert not card.read_config(Reg.STATUS, 2) & Status.RECEIVED_MASTER_ABORT


def test_reset_takes_windows_and_interrupts_away(board: Board, card: Card) -> None:
    command(card, Command.IO)
    card.write_config(BAR0, 4, 0xC000)
    card.set_intx(True)
    board.bus.reset()
    assert not board.windows
    assert not any(line.level for line in board.bus.pirq)
    assert card.read_config(BAR0, 4) == 1


def test_saved_state_brings_windows_and_pin_back(board: Board, card: Card) -> None:
    command(card, Command.IO)
    card.write_config(BAR0, 4, 0xC000)
    card.set_intx(True)
    state = card.state()
    board.bus.reset()
    card.restore(state)
    assert board.windows[0].base == 0xC000
    assert board.bus.pirq[swizzle(3, 1)].level
    with pytest.raises(StateError):
        card.restore(state | {"config": "00"})


def test_mechanism_1_finds_devices_and_reads_ones_elsewhere(board: Board, card: Card) -> None:
    ports = ConfigMechanism1(board.bus)
    ports.write_address(0x80000000 | 3 << 11)
    assert ports.read_data(0, 4) == 0x56781234
    assert ports.read_data(2, 2) == 0x5678
    ports.write_data(0, 1, 0)
    ports.write_address(0x80000000 | 4 << 11)
    assert ports.read_data(0, 4) == 0xFFFFFFFF
    ports.write_address(3 << 11)
    assert ports.read_data(0, 2) == 0xFFFF, "not enabled"
    ports.write_address(0x80010000 | 3 << 11)
    assert ports.read_data(0, 1) == 0xFF, "another bus"


def test_a_slot_holds_one_device(board: Board, card: Card) -> None:
    with pytest.raises(ValueError, match="slot 0x3 function 0 is not available for Card"):
        board.bus.plug(Card(), 3)
    other = Card()
    board.bus.plug(other)
    assert other.devfn == 0
    board.bus.unplug(other)
    assert 0 not in board.bus.devices


class WithRom(PciDevice):
    """A card with an expansion ROM and nothing else."""

    identity = Identity(0x1234, 0x1111, class_code=0x030000)

    def __init__(self) -> None:
        super().__init__()
        self.add_rom(b"\x55\xaa" + bytes(range(256)) * 16)


def test_an_expansion_rom_answers_while_memory_and_its_own_bit_are_on(board: Board) -> None:
    card = WithRom()
    board.bus.plug(card, 7)
    card.write_config(0x30, 4, 0xFFFFFFFF)
    assert card.read_config(0x30, 4) == 0xFFFFE001
    card.write_config(0x30, 4, 0xFEB00001)
    assert not board.windows
    command(card, Command.MEMORY)
    rom = board.windows[-1]
    assert (rom.base, rom.size) == (0xFEB00000, 0x2000)
    assert rom.read(0, 2) == 0xAA55
    assert rom.read(0x1800, 4) == 0xFFFFFFFF
    rom.write(0, 2, 0)
    assert rom.read(0, 2) == 0xAA55
    card.write_config(0x30, 4, 0xFEB00000)
    assert not board.windows
