"""SMBIOS tables: QEMU's as the model, dmidecode's rules."""

from __future__ import annotations

import struct

import pytest

from pytcg.machine.smbios import Smbios, SmbiosError

# QEMU 7.2's structures of a `pc` with 256 MiB, without the processor's CPUID and speeds.
QEMU = {
    1: bytes.fromhex("010203" "00" + "00" * 16 + "060000"),
    3: bytes.fromhex("010102000003030302 00000000 00000000 00"),
    16: bytes.fromhex("010306 00000400 feff 0100" + "00" * 8),
    17: bytes.fromhex("0010feffffffffff 0001 09 00 01 00 07 0200 0000 02 000000 00 00000000"
                      "0000 0000 0000 0000"),
    19: bytes.fromhex("00000000 ffff0300 0010 01" + "00" * 16),
    32: bytes(7),
    127: b"",
}  # fmt: skip


def structures(data: bytes) -> dict[int, tuple[bytes, list[bytes]]]:
    found, at = {}, 0
    while at < len(data):
        kind, length = data[at], data[at + 1]
        end = data.index(b"\0\0", at + length)
        found[kind] = data[at + 4 : at + length], data[at + length : end].split(b"\0")
        at = end + 2
    return found


def test_structures_are_qemus() -> None:
    found = structures(Smbios(256 << 20).tables())
    for kind, body in QEMU.items():
        assert found[kind][0].hex(" ") == body.hex(" "), kind
    assert found[1][1] == [b"QEMU", b"Standard PC (i440FX + PIIX, 1996)", b"pc-i440fx-7.2"]
    assert found[4][1] == [b"CPU 0", b"QEMU", b"pc-i440fx-7.2"]
    assert list(found) == [1, 3, 4, 16, 17, 19, 32, 127]


@pytest.mark.parametrize("size", [64 << 20, 3 << 30, 8 << 30, 40 << 30])
def test_the_anchor_counts_and_sums(size: int) -> None:
    made = Smbios(size)
    anchor, tables = made.anchor(), made.tables()
    assert len(anchor) == 31 and anchor[:4] == b"_SM_" and anchor[16:21] == b"_DMI_"
    assert sum(anchor) & 0xFF == 0 and sum(anchor[16:]) & 0xFF == 0
    assert struct.unpack_from("<H", anchor, 22)[0] == len(tables)
    assert tables.endswith(b"\x7f\x04\x00\x7f\0\0")


def test_tables_at_an_address() -> None:
    made = Smbios(1 << 30)
    image = made.place(0xF8000)
    assert sum(image[:31]) & 0xFF == 0 and sum(image[16:31]) & 0xFF == 0
    address, length = struct.unpack_from("<L", image, 24)[0], struct.unpack_from("<H", image, 22)[0]
    assert image[address - 0xF8000 :] == made.tables() and length == len(made.tables())


def test_what_the_command_line_says() -> None:
    made = Smbios(1 << 30)
    made.set(0, {"vendor": "me", "release": "3.7"})
    made.set(1, {"uuid": "00112233-4455-6677-8899-aabbccddeeff", "serial": "S1"})
    made.set(11, {"value": "hello"})
    found = structures(made.tables())
    assert found[0][1] == [b"me"]
    assert found[1][0][4:20] == bytes.fromhex("33221100554477668899aabbccddeeff")
    assert found[1][0][3] == 4 and found[1][1][3] == b"S1"
    assert found[11] == (b"\1", [b"hello"])


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [(9, {}, "type 9"), (1, {"x": "y"}, "'x'"), (1, {"uuid": "y"}, "invalid UUID 'y'")],
)
def test_nonsense_is_refused(kind: int, values: dict[str, str], message: str) -> None:
    with pytest.raises(SmbiosError, match=message):
        Smbios(1 << 30).set(kind, values)
