"""Jobs, exports and devices by lines of the human monitor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monitor.station import Station

Make = Callable[[str], Station]


def test_lines_that_work_on_disks(station: Make, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = station("-drive file={folder}/disk,format=raw,if=none,id=d"
                   " -device virtio-scsi-pci,id=s -device virtio-balloon-pci")  # fmt: skip
    for line, text in (
        ("info block-jobs", "No active jobs\n"),
        (f"drive_backup -f d {tmp_path}/b raw", ""),
        ("block_job_cancel x", "Error: Block job 'x' not found\n"),
        ("drive_backup d", 'Try "help drive_backup" for more information\n'),
        ("drive_mirror -x d t", 'Try "help drive_mirror" for more information\n'),
        ("block_job_set_speed d x", 'Try "help block_job_set_speed" for more information\n'),
        ("device_add scsi-hd,drive=d,id=x,bus=s.0", ""),
        ("device_add nix", "Error: 'nix' is not a valid device model name\n"),
        (f"nbd_server_start -a unix:{tmp_path}/nbd", ""),
        ("nbd_server_add nix", "Error: Cannot find device='nix' nor node-name='nix'\n"),
        ("nbd_server_remove d", ""),
        ("nbd_server_stop", ""),
        ("nbd_server_start nix", "Error: error parsing address 'nix'\n"),
        ("info balloon", "balloon: actual=16\n"),
        ("balloon 8", ""),
        (f"snapshot_blkdev d {tmp_path}/over.qcow2 qcow2", ""),
        ("info kvm", "kvm support: disabled\n"),
    ):  # fmt: skip
        said = made.line(line)
        assert said.endswith(text) and bool(said) == bool(text), (line, said)
        made.until(lambda: not made.run("query-block-jobs"))
    assert (tmp_path / "b").stat().st_size == 1 << 20
    assert "over.qcow2 (qcow2)" in made.line("info block d")
