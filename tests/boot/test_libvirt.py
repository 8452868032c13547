"""libvirt defines and runs an ordinary domain on our emulator.

Its driver runs inside of virsh (`qemu:///embed`), with a folder of its own for all that it keeps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boot.terminal import SOURCES
from pytcg.cli import guest

VIRSH = shutil.which("virsh")
DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VIRSH is None or not DRIVER.exists(), reason="needs virsh and libvirt's QEMU"
                       " driver: packages libvirt-clients, libvirt-daemon-driver-qemu"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the driver as it is set up here wants root"),
]  # fmt: skip
SECONDS = 900
SETTINGS = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
remember_owner = 0
"""
DOMAIN = """
<domain type='qemu'>
  <name>story</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{folder}/disk.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>
    <serial type='file'><source path='{folder}/serial'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{folder}/agent'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <graphics type='vnc' port='-1' listen='127.0.0.1'/>
    <video><model type='vga'/></video>
    <input type='tablet' bus='virtio'/>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an emulator (libvirt gives it an environment of its own), a disk and settings."""
    root = tmp_path / "libvirt"
    (root / "etc").mkdir(parents=True)
    (root / "etc/qemu.conf").write_text(SETTINGS)
    cache = guest.cache_folder().parent.parent
    emulator = tmp_path / "emulator"
    emulator.write_text(f"#!/bin/sh\nexport PYTHONPATH={SOURCES} XDG_CACHE_HOME={cache}\n"
                        f'exec {sys.executable} -m pytcg.cli.system "$@"\n')  # fmt: skip
    emulator.chmod(0o755)
    for name in ("disk", "second"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / f"{name}.qcow2",
                        "16M"], check=True)  # fmt: skip
    return tmp_path


def virsh(folder: Path, *commands: str) -> str:
    """What it prints; all commands in one process, as the domain lives no longer than that."""
    done = subprocess.run(
        [str(VIRSH), "-c", f"qemu:///embed?root={folder}/libvirt", "; ".join(commands)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    logs = "".join(path.read_text() for path in (folder / "libvirt/log/qemu").glob("*.log"))
    assert not done.returncode, done.stdout + done.stderr + logs[-2000:]
    return done.stdout


def test_a_domain_is_defined_started_looked_at_and_ended(folder: Path, initramfs: Path) -> None:
    xml = DOMAIN.format(kernel=initramfs.parent / guest.KERNEL, initrd=initramfs, folder=folder,
                        emulator=folder / "emulator")  # fmt: skip
    (folder / "story.xml").write_text(xml)
    attach = (f"attach-disk story {folder}/second.qcow2 vdb --driver qemu --subdriver qcow2"
              " --live")  # fmt: skip
    said = virsh(
        folder, f"define {folder}/story.xml", "start story", "domstate story", "suspend story",
        "domstate story", "resume story", "domstats story", attach, "domblklist story",
        f"screenshot story {folder}/screen", "qemu-monitor-command story --hmp info status",
        "reset story", "destroy story",
    )  # fmt: skip
    for text in ("Domain 'story' started", "running", "paused", "Domain 'story' resumed",
                 "block.0.capacity=16777216", "Disk attached successfully",
                 f"{folder}/second.qcow2", "VM status: running", "Domain 'story' was reset",
                 "Domain 'story' destroyed"):  # fmt: skip
        assert text in said
    assert (folder / "screen").stat().st_size
