"""`info`: what there is to be told."""

from __future__ import annotations

from typing import Any, Final

from pytcg.monitor.human import block, board, input, jobs, paging, registers, saving, vnc
from pytcg.monitor.human.table import HumanCommand, Shell


def version(shell: Shell, words: list[str]) -> str:
    """info version."""
    del words
    known: dict[str, Any] = shell.qmp("query-version")
    number = known["qemu"]
    return f"{number['major']}.{number['minor']}.{number['micro']}{known['package']}\n"


def status(shell: Shell, words: list[str]) -> str:
    """info status."""
    del words
    known = shell.qmp("query-status")
    text = f"VM status: {'running' if known['running'] else 'paused'}"
    if not known["running"] and known["status"] != "paused":
        text += f" ({known['status']})"
    return text + "\n"


def name(shell: Shell, words: list[str]) -> str:
    """info name."""
    del words
    known = shell.qmp("query-name").get("name")
    return f"{known}\n" if known else ""


def uuid(shell: Shell, words: list[str]) -> str:
    """info uuid."""
    del words
    return f"{shell.qmp('query-uuid')['UUID']}\n"


def kvm(shell: Shell, words: list[str]) -> str:
    """info kvm."""
    del words
    enabled = shell.qmp("query-kvm")["enabled"]
    return f"kvm support: {'enabled' if enabled else 'disabled'}\n"


def cpus(shell: Shell, words: list[str]) -> str:
    """info cpus."""
    del words
    return "".join(f"{'*' if not row['cpu-index'] else ' '} CPU #{row['cpu-index']}:"
                   f" thread_id={row['thread-id']}\n"
                   for row in shell.qmp("query-cpus-fast"))  # fmt: skip


def chardev(shell: Shell, words: list[str]) -> str:
    """info chardev."""
    del words
    return "".join(f"{row['label']}: filename={row['filename']}\n"
                   for row in shell.qmp("query-chardev"))  # fmt: skip


def memory_size(shell: Shell, words: list[str]) -> str:
    """info memory_size_summary."""
    del words
    known = shell.qmp("query-memory-size-summary")
    return (f"base memory: {known['base-memory']}\n"
            f"plugged memory: {known.get('plugged-memory', 0)}\n")  # fmt: skip


def jit(shell: Shell, words: list[str]) -> str:
    """info jit: our own account; there is no one code buffer to measure."""
    del words
    with shell.machine.runner.at_rest():
        stats = shell.machine.board.vcpu.stats
    return ("Translation buffer state:\n"
            f"TB count            {stats.blocks}\n"
            f"TB flush count      {stats.flushes}\n"
            f"instructions        {stats.instructions}\n"
            f"  in regions        {stats.region_insns}\n"
            f"region entries      {stats.region_entries}\n"
            f"{stats.regions}\n")  # fmt: skip


def _row(name: str, help: str, run: Any, arguments: str = "", most: int = 0) -> HumanCommand:
    return HumanCommand(name, arguments, help, run, 0, most)


SUBJECTS: Final = tuple(sorted((
    *jobs.SUBJECTS, *saving.SUBJECTS, *vnc.SUBJECTS, *input.SUBJECTS,
    _row("block", "show info of one block device or all block devices (-n: show named nodes; -v:"
         " show details)", block.block, "[-n] [-v] [device]", 3),
    _row("blockstats", "show block device statistics", block.statistics),
    _row("chardev", "show the character devices", chardev),
    _row("cpus", "show infos for each CPU", cpus),
    _row("jit", "show dynamic compiler info", jit),
    _row("kvm", "show KVM information", kvm),
    _row("mem", "show the active virtual memory mappings", paging.ranges),
    _row("memory_size_summary", "show the amount of initially allocated and present hotpluggable"
         " (if enabled) memory in bytes.", memory_size),
    _row("mtree", "show memory tree", board.mtree),
    _row("name", "show the current VM name", name),
    _row("pci", "show PCI info", board.pci),
    _row("pic", "show PIC state", board.pic),
    _row("qtree", "show device tree", board.qtree),
    _row("registers", "show the cpu registers", registers.show, most=1, arguments="[-a|vcpu]"),
    _row("status", "show the current VM status (running|paused)", status),
    _row("tlb", "show virtual to physical memory mappings", paging.tlb),
    _row("uuid", "show the current VM UUID", uuid),
    _row("version", "show the version of QEMU", version),
)))
