"""Linux with devices that come and go by QMP, seen by QEMU's own client library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from qemu.qmp import EventListener, QMPClient

from boot.terminal import ANSWER_SECONDS, Terminal
from boot.test_disks import ask

pytestmark = pytest.mark.boot
Machine = Callable[..., Terminal]


def test_linux_sees_a_disk_come_and_go(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"plugged!".ljust(1 << 20, b"\0"))
    terminal = machine("-device", "virtio-scsi-pci,id=s", "-qmp",
                       f"unix:{tmp_path}/qmp,server=on,wait=off")  # fmt: skip

    async def story() -> None:
        client = QMPClient("test")
        await client.connect(str(tmp_path / "qmp"))
        listener = EventListener()
        client.register_listener(listener)
        await client.execute("blockdev-add", {"driver": "file", "node-name": "n",
                                              "filename": str(tmp_path / "disk")})  # fmt: skip
        await client.execute("device_add", {"driver": "scsi-hd", "drive": "n", "id": "d",
                                            "bus": "s.0", "scsi-id": 5})  # fmt: skip
        wait = "until [ -b /dev/sda ]; do sleep 1; done; "
        assert "plugged!" in ask(terminal, wait + "dd if=/dev/sda bs=8 count=1 2>/dev/null; echo")
        assert ":0:5:0/block" in ask(terminal, "readlink /sys/block/sda")
        await client.execute("device_del", {"id": "d"})
        assert (await asyncio.wait_for(listener.get(), ANSWER_SECONDS))["event"] == "DEVICE_DELETED"
        assert "gone" in ask(terminal, "while [ -b /dev/sda ]; do sleep 1; done; echo go''ne")
        await client.disconnect()

    asyncio.run(story())


def test_linux_sees_cards_come_and_go(machine: Machine, tmp_path: Path) -> None:
    """ACPI's hot-plug: a disk and an entropy source in slots that were empty."""
    (tmp_path / "disk").write_bytes(b"plugged!".ljust(1 << 20, b"\0"))
    terminal = machine("-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off")

    async def story() -> None:
        client = QMPClient("test")
        await client.connect(str(tmp_path / "qmp"))
        listener = EventListener(names="DEVICE_DELETED")
        client.register_listener(listener)
        await client.execute("blockdev-add", {"driver": "file", "node-name": "n",
                                              "filename": str(tmp_path / "disk")})  # fmt: skip
        wait = "until [ -b /dev/vda ]; do sleep 1; done; "
        for _ in range(2):
            await client.execute("device_add", {"driver": "virtio-blk-pci", "drive": "n",
                                                "id": "d", "addr": "9"})  # fmt: skip
            assert "plugged!" in ask(terminal,
                                     wait + "dd if=/dev/vda bs=8 count=1 2>/dev/null; echo")
            assert "00:09.0" in ask(terminal, "readlink /sys/block/vda")
            await client.execute("device_del", {"id": "d"})
            for device in (None, "d"):
                event = await asyncio.wait_for(listener.get(), ANSWER_SECONDS)
                assert event["data"].get("device") == device
            assert "absent" in ask(terminal, "[ -b /dev/vda ] || echo abs''ent")
        assert await client.execute("query-block") is not None
        await client.execute("blockdev-del", {"node-name": "n"})
        await client.disconnect()

    asyncio.run(story())
