"""The NVMe controller driven over PCI: queues, data pointers, errors, and drivers that mean ill."""

from __future__ import annotations

import json
import random
import struct

import pytest

from hw.media import FakeMedium
from hw.nvme_driver import ASQ, CQ, DATA, ENABLE, ENTRIES, LIST, SQ, Driver
from pytcg.hw.storage.nvme.command import Status
from pytcg.hw.storage.nvme.controller import DOORBELLS, Nvme, Reg

PAGE = 4096
WRITE, READ, COMPARE, ZEROES, MANAGE = 1, 2, 5, 8, 9
SGL = 0x40


@pytest.fixture(autouse=True, params=[True, False], ids=["at-once", "later"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium has its bytes at hand, or hasn't."""
    monkeypatch.setattr(FakeMedium, "cached", request.param)


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.medium.data[:] = random.Random(3).randbytes(driver.medium.size)
    driver.make_queues()
    return driver


def blocks(first: int, count: int) -> dict[str, int]:
    return {"cdw10": first, "cdw11": 0, "cdw12": count - 1}


def test_capabilities_and_reset() -> None:
    driver = Driver()
    cap = driver.get(Reg.CAP, 8)
    assert cap & 0xFFFF == 2047 and cap >> 37 & 1 and driver.get(Reg.VS) == 0x10400
    driver.put(Reg.CC, ENABLE & ~1)
    assert driver.get(Reg.CSTS) == 0
    driver.enable()


@pytest.mark.parametrize(("reg", "value", "pages"), [(Reg.AQA, 0, 0), (Reg.ASQ, 0x1000, 1),
                                                     (Reg.ASQ, 0x1000, 5)])  # fmt: skip
def test_a_controller_set_up_wrongly_does_not_get_ready(reg: int, value: int, pages: int
                                                        ) -> None:  # fmt: skip
    driver = Driver()
    driver.put(Reg.CC, 0)
    driver.put(reg, value)
    driver.put(Reg.CC, ENABLE | pages << 7)
    assert driver.get(Reg.CSTS) == 2


def test_identify(driver: Driver) -> None:
    assert driver.admin(6, cdw10=1) == (0, 0)
    page = driver.memory[DATA : DATA + PAGE]
    assert page[4:24] == b"abc".ljust(20) and page[24:38] == b"QEMU NVMe Ctrl"
    assert driver.admin(6, cdw10=0) == (0, 0)
    assert struct.unpack_from("<Q", driver.memory, DATA)[0] == driver.medium.size // 512
    assert driver.admin(6, cdw10=2, namespace=0) == (0, 0)
    assert struct.unpack_from("<LL", driver.memory, DATA) == (1, 0)
    assert driver.admin(6, cdw10=3)[0] == 0
    assert driver.admin(6, cdw10=0, namespace=2)[0] == Status.INVALID_NAMESPACE
    assert driver.admin(6, cdw10=0x55)[0] == Status.INVALID_FIELD


def test_features_and_logs(driver: Driver) -> None:
    assert driver.admin(9, cdw10=7, cdw11=0x00030003) == (0, 0x003F003F)
    assert driver.admin(0x0A, cdw10=6) == (0, 1)
    driver.medium.log.clear()
    assert driver.admin(9, cdw10=6, cdw11=0) == (0, 0)
    assert driver.medium.log == [("flush",)] and driver.admin(0x0A, cdw10=6) == (0, 0)
    assert driver.admin(0x0A, cdw10=6 | 1 << 8) == (0, 1)
    assert driver.admin(9, cdw10=0x0A)[0] == Status.FEATURE_NOT_CHANGEABLE
    assert driver.admin(9, cdw10=0x77)[0] == Status.INVALID_FIELD
    driver.io(READ, **blocks(0, 1))
    assert driver.admin(2, cdw10=2 | 127 << 16, namespace=0xFFFFFFFF) == (0, 0)
    assert driver.memory[DATA + 64] == 1
    assert driver.admin(2, cdw10=9 | 127 << 16)[0] == Status.INVALID_LOG_PAGE


@pytest.mark.parametrize(("offset", "count"), [(0, 1), (512, 7), (512, 8), (0, 16), (512, 16),
                                               (512, 1024)])  # fmt: skip
def test_region_pages_gather_and_scatter(driver: Driver, offset: int, count: int) -> None:
    """One page, two, and a list that goes on in another page of entries."""
    length = 512 * count
    spans = (offset + length + PAGE - 1) // PAGE
    pages = [DATA + PAGE * (number * 7 % 160) for number in range(spans)]
    second = pages[1] if spans == 2 else LIST + PAGE - 512
    room = 512 // 8
    entries = pages[1:]
    if len(entries) > room:
        entries.insert(room - 1, LIST + PAGE)
    if spans > 2:
        struct.pack_into(f"<{len(entries)}Q", driver.memory, second, *entries)
    where = {"pointer": pages[0] + offset, "second": second}
    assert driver.io(READ, **where, **blocks(8, count)) == 0
    seen = b"".join(driver.memory[page : page + PAGE] for page in pages)
    wanted = driver.medium.data[8 * 512 : 8 * 512 + length]
    assert seen[offset : offset + length] == wanted
    assert driver.io(WRITE, **where, **blocks(1024, count)) == 0
    assert driver.medium.data[1024 * 512 : 1024 * 512 + length] == wanted


def descriptor(kind: int, address: int, length: int) -> bytes:
    return struct.pack("<QL3xB", address, length, kind << 4)


def test_scatter_gather_lists(driver: Driver) -> None:
    data = driver.medium.data
    one = descriptor(0, DATA + 3, 512)
    assert driver.io(READ, flags=SGL, pointer=one, **blocks(1, 1)) == 0
    assert driver.memory[DATA + 3 : DATA + 515] == data[512:1024]
    parts = [descriptor(0, DATA, 100), descriptor(1, 0, 200), descriptor(2, LIST + 256, 16)]
    rest = descriptor(3, LIST + 512, 16), descriptor(0, DATA + 5000, 724)
    for at, raw in ((LIST, b"".join(parts)), (LIST + 256, rest[0]), (LIST + 512, rest[1])):
        driver.memory[at : at + len(raw)] = raw
    chain = descriptor(2, LIST, 48)
    assert driver.io(READ, flags=SGL, pointer=chain, **blocks(2, 2)) == 0
    assert driver.memory[DATA : DATA + 100] == data[1024:1124]
    assert driver.memory[DATA + 5000 : DATA + 5724] == data[1324:2048]
    assert driver.io(WRITE, flags=SGL, pointer=chain, **blocks(2, 2)) == Status.SGL_TYPE_INVALID


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (descriptor(0, DATA, 100), Status.SGL_LENGTH_INVALID),
        (descriptor(7, DATA, 512), Status.SGL_TYPE_INVALID),
        (descriptor(2, DATA, 17), Status.SGL_SEGMENT_INVALID),
        (descriptor(0, 1 << 40, 512), Status.DATA_TRANSFER_ERROR),
        (descriptor(2, 1 << 40, 64), Status.DATA_TRANSFER_ERROR),
        (descriptor(2, LIST, 16), Status.SGL_SEGMENT_INVALID),  # a segment that points at itself
    ],
)
def test_bad_lists(driver: Driver, raw: bytes, status: int) -> None:
    driver.memory[LIST : LIST + 16] = descriptor(2, LIST, 16)
    assert driver.io(READ, flags=SGL, pointer=raw, **blocks(0, 1)) == status


def test_errors_of_io_commands(driver: Driver) -> None:
    last = driver.medium.size // 512
    assert driver.io(READ, **blocks(last, 1)) == Status.LBA_OUT_OF_RANGE
    assert driver.io(0x7F) == Status.INVALID_OPCODE
    assert driver.io(READ, namespace=2) == Status.INVALID_NAMESPACE
    assert driver.io(READ, flags=1) == Status.INVALID_FIELD  # fused
    assert driver.io(READ, second=DATA + 8, **blocks(0, 16)) == Status.INVALID_PRP_OFFSET
    assert driver.io(READ, pointer=1 << 40, **blocks(0, 1)) == Status.DATA_TRANSFER_ERROR
    assert driver.io(READ, **blocks(0, 2000)) == Status.INVALID_FIELD
    driver.medium.broken = True
    assert driver.io(READ, **blocks(0, 1)) == Status.READ_ERROR
    assert driver.io(WRITE, **blocks(0, 1)) == Status.WRITE_FAULT
    assert driver.io(0) == Status.WRITE_FAULT


def test_a_read_only_medium() -> None:
    driver = Driver(FakeMedium(1 << 20, read_only=True))
    driver.make_queues()
    assert driver.io(WRITE, **blocks(0, 1)) == Status.READ_ONLY
    assert driver.admin(6, cdw10=0) == (0, 0)
    assert driver.memory[DATA + 99] == 1


def test_compare_zeroes_and_deallocation(driver: Driver) -> None:
    assert driver.io(READ, **blocks(5, 1)) == 0
    assert driver.io(COMPARE, **blocks(5, 1)) == 0
    assert driver.io(COMPARE, **blocks(6, 1)) == Status.COMPARE_FAILURE
    driver.medium.log.clear()
    assert driver.io(ZEROES, cdw10=4, cdw12=1 | 1 << 25) == 0
    struct.pack_into("<LLQLLQ", driver.memory, DATA, 0, 2, 10, 0, 3, 20)
    assert driver.io(MANAGE, cdw10=1, cdw11=4) == 0
    assert driver.medium.log == [("zeroes", 2048, 1024, True), ("discard", 20 * 512, 3 * 512),
                                 ("discard", 10 * 512, 1024)]  # fmt: skip


def test_force_unit_access_and_no_cache_go_through(driver: Driver) -> None:
    driver.medium.log.clear()
    for fua in (0, 1 << 30):
        driver.io(WRITE, cdw10=1, cdw12=fua)
    driver.admin(9, cdw10=6, cdw11=0)
    driver.io(WRITE, cdw10=1)
    assert [row[3] for row in driver.medium.log if row[0] == "write"] == [False, True, True]


def test_commands_end_in_any_order_and_reset_forgets_them(driver: Driver) -> None:
    driver.medium.held = True
    first, second = driver.submit(1, READ), driver.submit(1, 0)
    assert driver.finished(1) is None
    driver.medium.release(1)
    assert driver.finished(1) == (second, 0, 0)
    driver.put(Reg.CC, ENABLE & ~1)
    before = bytes(driver.memory)
    driver.medium.release()
    assert driver.memory == before and first
    driver.medium.held = False
    driver.enable()
    driver.make_queues()
    assert driver.io(READ) == 0


def test_a_full_completion_queue_holds_commands_back(driver: Driver) -> None:
    seen = []
    for turn in range(40):
        driver.submit(1, READ, cdw10=turn)
        if turn % 6 == 5:
            while (completion := driver.finished(1, ring=turn % 12 == 11)) is not None:
                seen.append(completion[0])
            if turn % 12 == 11:
                continue
            driver.put(DOORBELLS + 12, driver.heads[1])
    while (completion := driver.finished(1)) is not None:
        seen.append(completion[0])
    assert seen == list(range(seen[0], seen[0] + 40))


def test_pin_and_mask(driver: Driver) -> None:
    assert not driver.slot.pin
    driver.submit(1, 0)
    assert driver.slot.pin
    driver.put(Reg.INTMS, 1)
    assert not driver.slot.pin
    driver.put(Reg.INTMC, 1)
    assert driver.slot.pin
    driver.finished(1)
    assert not driver.slot.pin


def test_queues_are_made_and_deleted_in_order(driver: Driver) -> None:
    assert driver.admin(5, pointer=CQ, cdw10=7 << 16 | 1, cdw11=1)[0] == Status.INVALID_QUEUE_ID
    assert driver.admin(5, pointer=CQ, cdw10=7 << 16 | 70, cdw11=1)[0] == Status.INVALID_QUEUE_ID
    assert driver.admin(5, pointer=CQ, cdw10=2, cdw11=1)[0] == Status.INVALID_QUEUE_SIZE
    assert driver.admin(5, pointer=CQ + 8, cdw10=7 << 16 | 2, cdw11=1)[0] \
        == Status.INVALID_PRP_OFFSET  # fmt: skip
    assert driver.admin(5, pointer=CQ, cdw10=7 << 16 | 2, cdw11=9 << 16 | 1)[0] \
        == Status.INVALID_VECTOR  # fmt: skip
    assert driver.admin(1, pointer=SQ, cdw10=7 << 16 | 2, cdw11=9 << 16 | 1)[0] == Status.INVALID_CQ
    assert driver.admin(4, cdw10=1)[0] == Status.INVALID_QUEUE_DELETION
    driver.medium.held = True
    driver.submit(1, 0)
    deletion = driver.submit(0, 0, cdw10=1)
    assert driver.finished(0) is None  # a command is still under way
    driver.medium.release()
    assert driver.finished(0) == (deletion, 0, 0)
    assert driver.admin(4, cdw10=1) == (0, 0)
    assert driver.admin(0, cdw10=1)[0] == Status.INVALID_QUEUE_ID


def test_event_requests_wait_and_are_bounded(driver: Driver) -> None:
    for _ in range(4):
        driver.submit(0, 0x0C)
        assert driver.finished(0) is None
    assert driver.admin(0x0C)[0] == Status.TOO_MANY_EVENTS
    assert driver.admin(8, cdw10=0) == (0, 1)


def test_shutdown_flushes(driver: Driver) -> None:
    driver.medium.held = True
    driver.put(Reg.CC, ENABLE | 1 << 14)
    assert driver.get(Reg.CSTS) & 0xC == 4
    driver.medium.release()
    assert driver.get(Reg.CSTS) & 0xC == 8


def test_queues_outside_memory_are_fatal(driver: Driver) -> None:
    driver.put(Reg.CC, 0)
    driver.put(Reg.ASQ, 1 << 40, 8)
    driver.put(Reg.CC, ENABLE)
    driver.put(DOORBELLS, 1)
    assert driver.get(Reg.CSTS) & 2
    driver.put(DOORBELLS, 2)
    driver.put(Reg.CC, 0)
    driver.enable()


def test_state_survives_a_trip_through_json(driver: Driver) -> None:
    driver.submit(0, 0x0C)
    driver.admin(9, cdw10=6, cdw11=0)
    for _ in range(3):
        driver.submit(1, READ)
    saved = json.loads(json.dumps(driver.card.state()))
    card = Nvme("abc")
    card.add_namespace(1, driver.medium)
    card.host = driver.slot
    card.restore(saved)
    assert card.state() == driver.card.state()
    driver.card = card
    for _ in range(3):
        assert driver.finished(1) is not None
    assert driver.io(READ) == 0


def test_random_accesses_never_raise() -> None:
    rng = random.Random(5)
    for _ in range(30):
        driver = Driver()
        driver.make_queues()
        for _ in range(300):
            _stir(driver, rng)


def _stir(driver: Driver, rng: random.Random) -> None:
    where = rng.choice((ASQ, SQ)) + 64 * rng.randrange(ENTRIES)
    if rng.random() < 0.5:  # a command that is nearly right
        raw = struct.pack(
            "<BBHL16xQQLLLLLL", rng.randrange(16), rng.choice((0, SGL)), rng.getrandbits(16),
            rng.randrange(3), rng.randrange(1 << 21), rng.randrange(1 << 21),
            *(rng.choice((0, 1, 2, 7 << 16 | 2, rng.getrandbits(32))) for _ in range(6)),
        )  # fmt: skip
    else:
        raw = rng.randbytes(64)
    driver.memory[where : where + 64] = raw
    driver.memory[LIST : LIST + 64] = rng.randbytes(64)
    driver.put(DOORBELLS + 4 * rng.randrange(6), rng.randrange(ENTRIES + 1))
    if rng.random() < 0.1:
        driver.put(rng.randrange(0, 0x50, 4), rng.getrandbits(32))
    driver.get(rng.randrange(0x4000), rng.choice((1, 2, 4, 8)))
