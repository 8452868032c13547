"""The 440FX PCIset, against QEMU's registers after reset and by the datasheets."""

from __future__ import annotations

import pytest

from pytcg.hw.chipset.i440fx import I440fx, Pam, Segment
from pytcg.hw.chipset.piix3 import Piix3
from pytcg.hw.chipset.piix4_pm import GPE_LENGTH, Piix4Pm
from pytcg.hw.chipset.smbus import SmbusEeprom, SmbusHost
from pytcg.hw.clock import FakeClock
from pytcg.hw.core.acpi_pm import AcpiPm
from pytcg.hw.pci.bar import Bar
from pytcg.hw.pci.bus import PciBus
from pytcg.hw.pci.device import PciDevice
from pytcg.hw.state import StateError
from pytcg.machine import spd

# Configuration spaces of QEMU 7.2's `pc` right after reset: register, bytes; the rest is zeroes.
QEMU = {
    "I440fx": {0x00: "86803712000000000200000600000000", 0x2C: "f41a0011", 0x57: "20", 0x72: "02"},
    "Piix3": {
        0x00: "86800070000080020000010600008000", 0x2C: "f41a0011", 0x4C: "4d000300",
        0x60: "80808080", 0x69: "02", 0x70: "80", 0x76: "0c0c02", 0xA0: "08", 0xA8: "0f",
    },
    "Piix4Pm": {
        0x00: "86801371000080020300800600000000", 0x2C: "f41a0011", 0x3D: "01", 0x40: "01",
        0x5F: "10", 0x63: "60", 0x90: "01b1", 0xD2: "09",
    },
}  # fmt: skip
NO_SMM = (0x5B, 0x02)  # QEMU sets it, too, where it has no SMM


class Space:
    """Notes where windows are."""

    def __init__(self) -> None:
        self.places: dict[int, Bar] = {}

    def map_bar(self, bar: Bar) -> None:
        assert bar.base is not None
        self.places[bar.base] = bar

    def unmap_bar(self, bar: Bar) -> None:
        self.places = {base: other for base, other in self.places.items() if other is not bar}

    def dma_read(self, address: int, length: int) -> bytes:
        raise AssertionError

    def dma_write(self, address: int, data: bytes) -> None:
        raise AssertionError

    def dma_map(self, pieces: object) -> None: ...


class Bench:
    """The three functions in their slots."""

    def __init__(self) -> None:
        self.maps = 0
        self.space = Space()
        self.bus = PciBus(self.space, self.space, lambda address, data: None)
        self.host, self.isa = I440fx(self._mapped), Piix3()
        self.pm = AcpiPm(FakeClock(), lambda kind: None, gpe_length=GPE_LENGTH, gpe_in_window=False)
        self.smbus = SmbusHost({0x50: SmbusEeprom(bytes(range(128)))})
        self.power = Piix4Pm(self.pm, self.smbus)
        self.bus.plug(self.host, 0)
        self.bus.plug(self.isa, 1)
        self.bus.plug(self.power, 1, 3)

    def _mapped(self) -> None:
        self.maps += 1

    def functions(self) -> list[PciDevice]:
        return [self.host, self.isa, self.power]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_configuration_spaces_are_qemus(bench: Bench) -> None:
    for function in bench.functions():
        expected = bytearray(256)
        for reg, text in QEMU[type(function).__name__].items():
            data = bytes.fromhex(text)
            expected[reg : reg + len(data)] = data
        if function is bench.power:
            expected[NO_SMM[0]] = NO_SMM[1]
        assert bytes(function.config.bytes).hex(" ", 16) == bytes(expected).hex(" ", 16)


def test_pam_switches_each_segment(bench: Bench) -> None:
    assert all(segment.pam == Pam.NONE for segment in bench.host.segments())
    bench.host.write_config(0x58, 4, 0x12_03_10_00)  # PAM0 to PAM2
    bench.host.write_config(0x5F, 1, 0x20)
    segments = {segment.base: segment for segment in bench.host.segments()}
    assert segments[0xF0000] == Segment(0xF0000, 0x10000, Pam.READ)
    assert segments[0xC0000].pam == Pam.READ | Pam.WRITE
    assert segments[0xC4000].pam == Pam.NONE
    assert segments[0xC8000].pam == Pam.WRITE
    assert segments[0xCC000].pam == Pam.READ
    assert segments[0xEC000].pam == Pam.WRITE
    ends = [segment.base + segment.length for segment in bench.host.segments()]
    assert [0xC0000, *ends[:-1]] == [segment.base for segment in bench.host.segments()]
    assert ends[-1] == 0x100000


def test_every_change_of_pam_and_a_reset_are_told(bench: Bench) -> None:
    before = bench.maps
    bench.host.write_config(0x59, 1, 0x30)
    bench.host.reset()
    assert bench.maps == before + 2
    assert bench.host.segments()[-1].pam == Pam.NONE


def test_smram_opens_and_locks_itself(bench: Bench) -> None:
    bench.host.write_config(0x72, 1, 0x4A)
    assert bench.host.smram_open
    bench.host.write_config(0x72, 1, 0x1A)
    assert not bench.host.smram_open
    bench.host.write_config(0x72, 1, 0x4A)
    assert not bench.host.smram_open
    assert bench.host.config.bytes[0x72] & 0x10
    bench.bus.reset()
    assert bench.host.config.bytes[0x72] == 0x02


def test_pirqs_follow_their_routes_and_share_them(bench: Bench) -> None:
    high = lambda: [irq for irq, line in enumerate(bench.isa.irq) if line.level]  # noqa: E731
    bench.isa.set_pirq(0, True)
    bench.isa.set_pirq(3, True)
    assert high() == []
    bench.isa.write_config(0x60, 4, 0x0A_80_80_0A)
    assert high() == [10]
    bench.isa.set_pirq(0, False)
    assert high() == [10]
    bench.isa.write_config(0x63, 1, 0x0B)
    assert high() == [11]
    state = bench.isa.state()
    bench.isa.reset()
    assert high() == []
    bench.isa.restore(state)
    assert high() == [11]


def test_power_management_answers_where_pmba_says(bench: Bench) -> None:
    assert list(bench.space.places) == [0xB100]  # the SMBus
    bench.power.write_config(0x40, 4, 0x601)
    assert 0x600 not in bench.space.places
    bench.power.write_config(0x80, 1, 1)
    window = bench.space.places[0x600]
    assert window.size == 64
    window.write(4, 2, 1)
    assert bench.pm.read(4, 2) == window.read(4, 2) == 1
    bench.power.write_config(0x40, 4, 0xB000)
    assert 0x600 not in bench.space.places and 0xB000 in bench.space.places
    bench.bus.reset()
    assert list(bench.space.places) == [0xB100]


def test_general_purpose_events_have_ports_of_their_own(bench: Bench) -> None:
    bench.pm.set_acpi_mode(enabled=True)
    bench.pm.write_gpe(2, 0x02, 2)
    assert not bench.pm.sci.level
    bench.pm.raise_gpe(1)
    assert bench.pm.sci.level and bench.pm.read_gpe(0, 4) == 0x00020002
    bench.pm.write_gpe(0, 0x02)
    assert not bench.pm.sci.level
    assert bench.pm.read(0x20, 4) == 0


def test_an_eeprom_is_read_over_the_smbus(bench: Bench) -> None:
    smbus = bench.smbus
    smbus.write(4, 0x50 << 1 | 1)
    smbus.write(3, 0x22)
    smbus.write(2, 0x48)  # START, byte data
    assert (smbus.read(0), smbus.read(5)) == (0x02, 0x22)
    smbus.write(0, 0x02)
    smbus.write(2, 0x4C)  # word data
    assert (smbus.read(5), smbus.read(6)) == (0x22, 0x23)
    smbus.write(2, 0x44)  # receive byte: goes on behind
    assert smbus.read(5) == 0x24
    smbus.write(0, 0xFF)
    smbus.write(4, 0x51 << 1 | 1)
    smbus.write(2, 0x48)
    assert smbus.read(0) == 0x04, "nobody there"


def test_smbus_writes_and_blocks(bench: Bench) -> None:
    smbus = bench.smbus
    smbus.write(4, 0x50 << 1)
    smbus.write(3, 0x80)
    smbus.write(5, 3)
    smbus.write(2, 0x08)  # resets the index
    smbus.read(2)
    for value in (0x0A, 0x0B, 0x0C):
        smbus.write(7, value)
    smbus.write(2, 0x54)
    smbus.write(4, 0x50 << 1 | 1)
    smbus.write(3, 0x81)
    smbus.write(2, 0x48)
    assert smbus.read(5) == 0x0B


def test_memory_modules_add_up_and_their_checksums_hold() -> None:
    for size in (64 << 20, 384 << 20, 3 << 30):
        modules = spd.modules(size)
        assert sum((module[31]) << 22 for module in modules if module[31] != 1) in (size, 0)
        assert all(sum(module[:63]) & 0xFF == module[63] for module in modules)


def test_saved_states_of_other_devices_are_refused(bench: Bench) -> None:
    state = bench.bus.state()
    bench.host.write_config(0x59, 1, 0x30)
    bench.bus.restore(state)
    assert bench.host.segments()[-1].pam == Pam.NONE
    with pytest.raises(StateError):
        bench.bus.restore({**state, "devices": {}})


def test_apm_s_smi_is_enabled_from_the_start_without_smm_and_by_firmware_with_it() -> None:
    bench = Bench()
    assert bench.power.config.bytes[0x5B] & 2
    assert not bench.power.apm_smi
    managed = Piix4Pm(bench.pm, bench.smbus, smm=True)
    assert not managed.config.bytes[0x5B] & 2
    managed.write_config(0x5B, 1, 2)
    assert managed.apm_smi


def test_smram_is_seen_by_a_processor_in_smm_once_it_is_enabled(bench: Bench) -> None:
    assert not bench.host.smram_enabled
    bench.host.write_config(0x72, 1, 0x4A)
    assert (bench.host.smram_enabled, bench.host.smram_open) == (True, True)
    bench.host.write_config(0x72, 1, 0x0A)
    assert (bench.host.smram_enabled, bench.host.smram_open) == (True, False)
