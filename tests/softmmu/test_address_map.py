"""Physical memory in layers."""

from __future__ import annotations

import random

import pytest

from pytcg.exec.layout import STORES_TO_DEVICE
from pytcg.softmmu.address_map import AddressMap, Region, ram, rom
from pytcg.softmmu.ram import RamError, RamWindow

PAGE = 0x1000


@pytest.fixture
def memory() -> AddressMap:
    """16 pages of RAM, and as many of the window left over."""
    made = AddressMap(RamWindow(32 * PAGE))
    made.add_ram(0, 16 * PAGE, 0)
    return made


def test_a_shadow_hides_ram_until_it_is_taken_away(memory: AddressMap) -> None:
    memory.write(4 * PAGE, b"ram")
    memory.window.view[20 * PAGE : 20 * PAGE + 3] = b"ROM"
    memory.shadow("bios", [rom(4 * PAGE, 2 * PAGE, 20 * PAGE)])
    assert memory.read(4 * PAGE, 3) == b"ROM"
    memory.store(4 * PAGE, b"xxx")
    assert memory.read(4 * PAGE, 3) == b"ROM"
    memory.shadow("bios", [])
    assert memory.read(4 * PAGE, 3) == b"ram"
    assert memory.regions == [ram(0, 16 * PAGE, 0)]


def test_a_shadow_splits_what_is_below(memory: AddressMap) -> None:
    memory.shadow("bios", [rom(4 * PAGE, PAGE, 20 * PAGE)])
    assert memory.regions == [
        ram(0, 4 * PAGE, 0), rom(4 * PAGE, PAGE, 20 * PAGE), ram(5 * PAGE, 11 * PAGE, 5 * PAGE),
    ]  # fmt: skip


def test_stores_may_go_elsewhere_than_loads(memory: AddressMap) -> None:
    """A PAM segment with WE alone: the BIOS copies itself onto its own address."""
    memory.window.view[20 * PAGE : 20 * PAGE + 3] = b"ROM"
    memory.shadow("pam", [Region(4 * PAGE, PAGE, 20 * PAGE, 4 * PAGE)])
    memory.store(4 * PAGE, memory.read(4 * PAGE, 3))
    memory.store(4 * PAGE + 1, b"A")
    assert memory.read(4 * PAGE, 3) == b"ROM"
    memory.shadow("pam", [])
    assert memory.read(4 * PAGE, 3) == b"RAM"


def test_a_fill_shows_only_where_nothing_is(memory: AddressMap) -> None:
    memory.reserve(20 * PAGE, PAGE)
    memory.fill("vram", [ram(12 * PAGE, 16 * PAGE, 16 * PAGE)])
    assert memory.regions[1:] == [
        ram(16 * PAGE, 4 * PAGE, 20 * PAGE), ram(21 * PAGE, 7 * PAGE, 25 * PAGE)
    ]
    memory.fill("vram", [ram(64 * PAGE, 16 * PAGE, 16 * PAGE)])
    assert memory.regions[1:] == [ram(64 * PAGE, 16 * PAGE, 16 * PAGE)]


def test_bus_masters_do_not_reach_devices(memory: AddressMap) -> None:
    memory.shadow("flash", [Region(4 * PAGE, PAGE, 20 * PAGE, STORES_TO_DEVICE)])
    with pytest.raises(RamError, match="0x4000"):
        memory.store(4 * PAGE - 1, b"xx")
    with pytest.raises(RamError, match="0x10000"):
        memory.read(16 * PAGE - 1, 2)


def test_listeners_hear_of_real_changes_only(memory: AddressMap) -> None:
    heard: list[int] = []
    memory.on_change.append(lambda: heard.append(memory.version))
    for _ in range(2):
        memory.shadow("bios", [rom(4 * PAGE, PAGE, 20 * PAGE)])
    memory.shadow("other", [])
    assert len(heard) == 1


def test_the_window_is_given_out_behind_the_ram(memory: AddressMap) -> None:
    assert [memory.allocate(size) for size in (1, PAGE, 3 * PAGE)] == [
        16 * PAGE, 17 * PAGE, 18 * PAGE,
    ]  # fmt: skip
    with pytest.raises(RamError, match="no room"):
        memory.allocate(12 * PAGE)


@pytest.mark.parametrize("seed", range(50))
def test_random_layers_against_painting_page_by_page(memory: AddressMap, seed: int) -> None:
    random_ = random.Random(seed)

    def region() -> Region:
        start, length = random_.randrange(24), random_.randrange(1, 8)
        return ram(start * PAGE, length * PAGE, random_.randrange(24) * PAGE)

    shadows = {key: [region() for _ in range(random_.randrange(3))] for key in "abc"}
    fills = {key: [region() for _ in range(random_.randrange(3))] for key in "de"}
    memory.reserve(18 * PAGE, 2 * PAGE)
    for key, regions in shadows.items():
        memory.shadow(key, regions)
    for key, regions in fills.items():
        memory.fill(key, regions)
    order = [r for regions in reversed(shadows.values()) for r in regions]
    order.append(ram(0, 16 * PAGE, 0))
    under = [r for regions in reversed(fills.values()) for r in regions]
    for page in range(32):
        address = page * PAGE
        layers = order if page in (18, 19) else order + under
        expected = next((r for r in layers if r.physical <= address < r.end), None)
        found = memory.find(address)
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found.cut(address, address + PAGE) == expected.cut(address, address + PAGE)


def test_ram_in_place_is_plain_ram_with_neighbours_joined(memory: AddressMap) -> None:
    told: list[tuple[int, int]] = []
    memory.on_write.append(lambda at, length: told.append((at, length)))
    place = memory.map([(PAGE, 100), (PAGE + 100, 28), (3 * PAGE, 4), (PAGE, 4)])
    assert place is not None and [len(view) for view in place.views] == [128, 4, 4]
    place.views[0][:] = bytes(range(128))
    place.views[1][:] = b"here"
    assert memory.read(PAGE, 128) == bytes(range(128)) and memory.read(3 * PAGE, 4) == b"here"
    assert not told
    place.stored()
    assert told == [(PAGE, 128), (3 * PAGE, 4), (PAGE, 4)]


@pytest.mark.parametrize("piece", [
    (4 * PAGE, 4), (5 * PAGE - 4, 4), (4 * PAGE - 2, 4),  # ROM, and across its beginning
    (8 * PAGE, 4), (9 * PAGE - 2, 4),  # loads and stores elsewhere, and across its end
    (16 * PAGE - 2, 4), (64 * PAGE, 4), ((1 << 64) - 4, 4), (0, 1 << 32),
])  # fmt: skip
def test_what_is_no_plain_ram_is_not_had_in_place(memory: AddressMap, piece: tuple[int, int]
                                                  ) -> None:  # fmt: skip
    memory.shadow("bios", [rom(4 * PAGE, PAGE, 20 * PAGE)])
    memory.shadow("pam", [Region(8 * PAGE, PAGE, 21 * PAGE, 8 * PAGE)])
    assert memory.map([(0, 4)]) is not None
    assert memory.map([(0, 4), piece]) is None


def test_ram_in_place_lies_where_the_window_has_it(memory: AddressMap) -> None:
    """Behind a hole addresses and offsets differ; windows move in between."""
    memory.add_ram(64 * PAGE, 4 * PAGE, 16 * PAGE)
    place = memory.map([(15 * PAGE, PAGE), (64 * PAGE, 8), (3, 1)])
    assert place is not None and [len(view) for view in place.views] == [PAGE + 8, 1]
    place.views[0][PAGE:] = b"behind-a"
    assert memory.read(64 * PAGE, 8) == b"behind-a"
    memory.shadow("again", [ram(5 * PAGE, PAGE, 2 * PAGE)])
    place = memory.map([(5 * PAGE, 4), (6 * PAGE, 4), (4 * PAGE, 4)])
    assert place is not None
    for number, view in enumerate(place.views):
        view[:] = bytes([number] * 4)
    assert [memory.read(page * PAGE, 1)[0] for page in (2, 6, 4)] == [0, 1, 2]
