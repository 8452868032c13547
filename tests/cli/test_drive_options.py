"""Options that name disks: QEMU's spelling, and one line for what is wrong."""

from __future__ import annotations

import pytest

from pytcg.cli.system.option_values import Information, OptionError
from pytcg.cli.system.options import parse


@pytest.mark.parametrize(
    ("line", "drives"),
    [
        ("disk.img", [{"if": "ide", "index": "0", "media": "disk", "file": "disk.img"}]),
        ("-hdb x", [{"if": "ide", "index": "1", "media": "disk", "file": "x"}]),
        ("-cdrom x", [{"if": "ide", "index": "2", "media": "cdrom", "file": "x"}]),
        ("-drive file=x,if=virtio,format=raw", [{"file": "x", "if": "virtio", "format": "raw"}]),
        ("-drive x,read-only=on", [{"file": "x", "readonly": "on"}]),
    ],
)
def test_drives(line: str, drives: list[dict[str, str]]) -> None:
    assert parse(line.split()).drives == drives


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-drive file=x,if=usb", "-drive file=x,if=usb: unsupported bus type 'usb'"),
        ("-drive x,cache=y", "-drive x,cache=y: cache can't be 'y'"),
        ("-drive x,index=y", "-drive x,index=y: Parameter 'index' expects a number"),
        ("-blockdev raw", "-blockdev raw: 'node-name' must be specified for the root node"),
        ("-blockdev node-name=x", "-blockdev node-name=x: Parameter 'driver' is missing"),
        ("-device ide-hd,unit=x",
         "-device ide-hd,unit=x: Property 'ide-hd.unit' expects a number, not 'x'"),
    ],
)
def test_wrong_option_is_named(line: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(line.split())
    assert str(caught.value) == message


def test_help_of_devices() -> None:
    with pytest.raises(Information, match='name "ide-hd", bus IDE'):
        parse(["-device", "help"])
    with pytest.raises(Information, match="ide-hd options:\n"):
        parse(["-device", "ide-hd,help"])


def test_blockdev_refers_to_an_earlier_node() -> None:
    upper = '{"driver": "qcow2", "node-name": "q", "file": "f"}'
    options = parse(["-blockdev", "file,node-name=f,filename=x", "-blockdev", upper])
    assert options.blockdevs["q"]["file"] == "f" and options.blockdevs["f"]["filename"] == "x"
