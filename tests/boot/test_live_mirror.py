"""Linux writes to its disk while that moves to another file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from qemu.qmp import EventListener, QMPClient

from boot.terminal import ANSWER_SECONDS, Terminal
from boot.test_disks import ask

pytestmark = pytest.mark.boot
Machine = Callable[..., Terminal]
WRITER = ("while :; do dd if=/dev/urandom of=/dev/vda bs=4k count=8 conv=notrunc"
          " seek=$((RANDOM % 2000)) 2>/dev/null; sync; done &")  # fmt: skip


def test_linux_writes_while_its_disk_moves(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(bytes(8 << 20))
    terminal = machine("-drive", f"file={tmp_path}/old,format=raw,if=virtio,id=d", "-qmp",
                       f"unix:{tmp_path}/qmp,server=on,wait=off")  # fmt: skip

    async def story() -> None:
        client = QMPClient("test")
        await client.connect(str(tmp_path / "qmp"))
        listener = EventListener(("BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"))
        client.register_listener(listener)
        ask(terminal, WRITER)
        await client.execute("drive-mirror", {"device": "d", "target": str(tmp_path / "new"),
                                              "format": "raw", "sync": "full"})  # fmt: skip
        assert (await asyncio.wait_for(listener.get(), ANSWER_SECONDS))["event"].endswith("READY")
        ask(terminal, "sleep 2")
        await client.execute("block-job-complete", {"device": "d"})
        assert (await asyncio.wait_for(listener.get(), ANSWER_SECONDS))["event"].endswith("ED")
        ask(terminal, "sleep 2")
        inserted = (await client.execute("query-block"))[0]["inserted"]
        assert inserted["file"] == str(tmp_path / "new")
        said = ask(terminal, "kill $!; wait; sync; echo 3 >/proc/sys/vm/drop_caches;"
                             " sha256sum /dev/vda")  # fmt: skip
        await client.disconnect()
        data = (tmp_path / "new").read_bytes()
        assert hashlib.sha256(data).hexdigest() in said
        assert data != (tmp_path / "old").read_bytes()

    asyncio.run(story())
