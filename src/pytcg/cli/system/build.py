"""From options to a running machine: memory, chardevs, board, vCPU, guest."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytcg.accel.kvm.errors import KvmError
from pytcg.block.device import BlockError
from pytcg.chardev.base import ChardevError, Context
from pytcg.cli.folders import guest_folder
from pytcg.cli.system.characters import (
    open_chardevs,
    open_for,
    open_parallels,
    open_serials,
    start_monitors,
)
from pytcg.cli.system.debugger import serve_debugger
from pytcg.cli.system.display_options import VGA_BIOS, has_card, is_device
from pytcg.cli.system.drives import Drives
from pytcg.cli.system.firmware_options import boot_options
from pytcg.cli.system.flashes import open_flashes
from pytcg.cli.system.fsdevs import open_fsdevs
from pytcg.cli.system.guest_code import open_guest_code
from pytcg.cli.system.messages import complain
from pytcg.cli.system.option_values import OptionError
from pytcg.cli.system.process_options import write_pid_file
from pytcg.cli.system.resume import prepare
from pytcg.engines import EngineError, cpu_warning, make_kvm_vcpu, make_vcpu
from pytcg.exec.vcpu import GuestError
from pytcg.log import Log
from pytcg.machine import layout
from pytcg.machine import pc_map as at
from pytcg.machine.boot import boot_kernel
from pytcg.machine.bus import Claimed
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError
from pytcg.machine.fsdev import FsdevError
from pytcg.machine.io_stop import stop_for_errors
from pytcg.machine.linux import LoadError
from pytcg.machine.loop import MainLoop
from pytcg.machine.memory_backend import BackendError
from pytcg.machine.objects import ObjectError, Objects
from pytcg.machine.pc import Pc, PcConfig
from pytcg.machine.roms import RomError, RomFinder
from pytcg.machine.runner import MachineError, Runner, Vcpu
from pytcg.machine.smbios import Smbios, SmbiosError
from pytcg.monitor.machine import Machine
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamError, RamWindow
from pytcg.tls.errors import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytcg.cli.system.option_values import Options
    from pytcg.exec.bus import CpuBus
    from pytcg.ui.console import Console

KNOWN_ERRORS = (
    DeviceError, LoadError, RomError, BlockError, ChardevError, Claimed, EngineError, MachineError,
    GuestError, KvmError, BackendError, FsdevError, ObjectError, TlsError,
)  # fmt: skip


class StartError(Exception):
    """The machine can't be built or can't go on; the text is for the user."""


def build_and_run(options: Options) -> int:
    """Run the machine the options describe; returns the process's exit status."""
    with ExitStack() as stack:
        try:
            if options.no_machine:
                return _run_empty(options, stack)
            return _run(options, stack)
        except (*KNOWN_ERRORS, OptionError) as error:
            raise StartError(str(error)) from error


def _run_empty(options: Options, stack: ExitStack) -> int:
    from pytcg.cli.system.empty import run_empty

    if options.pid_file is not None:
        _write_pid_file(options.pid_file, stack)
    return run_empty(options, stack)


def _run(options: Options, stack: ExitStack) -> int:
    _check_memory(options)
    if options.smm and (options.q35 or "kvm" in options.accelerators):
        raise StartError("-machine smm=on: there is no system management mode on q35 or with KVM")
    if options.pid_file is not None:
        _write_pid_file(options.pid_file, stack)
    code = open_guest_code(options)
    log = stack.enter_context(_open_log(options))
    loop = _make_loop(options)
    stack.callback(loop.close)
    chardevs = open_chardevs(options, Context(loop.asyncio, loop.lock, loop.stop))
    stack.callback(chardevs.close)
    objects = _make_objects(options, chardevs.context)
    stack.callback(objects.close)
    serials = open_serials(options, chardevs)
    debugcon = options.debugcon and open_for(chardevs, "-debugcon", options.debugcon, "debugcon")
    memory, smbios = _make_memory(options.memory), _smbios(options)
    config = PcConfig(
        options.memory, serials, debugcon or None, options.debugcon_port, code.bios,
        flashes=open_flashes(options, stack), kernel=code.firmware_kernel,
        q35=options.q35, hpet=options.hpet, smm=options.smm,
        parallels=open_parallels(options, chardevs), epoch=_epoch(options),
        sleep_states=options.sleep_states,
        nographic=options.nographic or options.firmware_on_serial,
        vga=has_card(options), vga_rom=_open_vga_bios(options),
        boot=boot_options(options.boot), smbios=smbios,
    )  # fmt: skip
    plug = partial(_make_vcpu, options, memory, log, stack)
    board = Pc(config, loop.clock, loop.lock, memory, plug)
    drives = Drives(options, loop.lock, loop.fail, stack, objects.groups)
    fsdevs = open_fsdevs(options, loop, stack)
    rack = Rack(board, drives.by_id, chardevs, objects, fsdevs)
    for link in board.serial_links:
        chardevs.connect(link.chardev, link.uart)
    for parallel in board.parallel_links:
        chardevs.connect(parallel.chardev, None)
    if config.debugcon is not None:
        chardevs.connect(config.debugcon, None)
    drives.add_devices(rack)  # which connect what they take themselves
    if code.kernel is not None:
        board.boot = partial(boot_kernel, code.kernel, memory, options.memory)
    runner = Runner(board, loop, no_reboot=options.no_reboot, paused=options.paused,
                    no_shutdown=options.no_shutdown,
                    incoming=options.incoming is not None)  # fmt: skip
    stop_for_errors(drives.by_id, runner)
    machine = Machine(board, runner, chardevs, loop, drives.by_id,
                      partial(_make_console, board, loop), options.name, smbios.uuid)  # fmt: skip
    if options.vnc:
        from pytcg.cli.system.vnc_servers import serve_vnc

        machine.vnc += serve_vnc(options, machine.console, loop, runner, stack)
    machine.cpu_model, machine.rack = options.cpu, rack
    machine.add_drive = drives.add
    stack.callback(machine.end)
    start_monitors(options, machine)
    if options.curses:
        from pytcg.cli.system.terminal import show_on_terminal

        show_on_terminal(machine, stack)
    serve_debugger(options, machine, stack)
    if options.qtest is not None:
        from pytcg.cli.system.qtest import serve_qtest

        serve_qtest(options, machine, stack)
    prepare(options, machine)
    options.ready()
    status = runner.run()
    if loop.signal is not None:
        stack.close()  # the terminal first
        print(f"pytcg-system-x86_64: terminating on signal {loop.signal}", file=sys.stderr)
    return status


def _make_loop(options: Options) -> MainLoop:
    if options.accelerators[:1] != ["qtest"]:
        return MainLoop()
    from pytcg.machine.qtest.clock import SteppedClock

    return MainLoop(SteppedClock)


def _make_objects(options: Options, context: Context) -> Objects:
    objects = Objects(context)
    for values in options.objects:
        objects.create(values)
    return objects


def _epoch(options: Options) -> int:
    return int(time.time()) if options.epoch is None else options.epoch


def _write_pid_file(path: str, stack: ExitStack) -> None:
    try:
        write_pid_file(path, stack)
    except OSError as error:
        raise StartError(f"cannot create PID file: {path}: {error.strerror}") from error


def _open_vga_bios(options: Options) -> bytes | None:
    """The card's BIOS. Who starts a kernel and names no card can do without."""
    finder = RomFinder(options.rom_folders, guest_folder())
    wanted = has_card(options) or is_device(options)
    if not wanted or (options.vga is None and finder.find(VGA_BIOS) is None):
        return None
    return finder.read(VGA_BIOS, "the VGA BIOS")


def _make_console(board: Pc, loop: MainLoop) -> Console | None:
    if board.display is None:
        return None
    from pytcg.ui.console import Console

    inputs = board.power.keyboard
    return Console(loop.lock, board.display.screen, inputs.keyboard, inputs.mouse, board.inputs)


def _smbios(options: Options) -> Smbios:
    tables = Smbios(options.memory)
    try:
        for kind, values in options.smbios:
            tables.set(kind, values)
        tables.tables()
    except SmbiosError as error:
        raise StartError(f"-smbios: {error}") from error
    return tables


def _check_memory(options: Options) -> None:
    size = options.memory
    if options.q35 and size > at.Q35_MEMORY_END:
        raise StartError(f"-m: q35 takes at most {at.Q35_MEMORY_END >> 20} MiB of memory")
    if size < layout.MINIMUM:
        raise StartError(f"-m: {size >> 10} KiB is too little memory for a guest")
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > host:
        sizes = f"-m asks for {size >> 20} MiB, the host has {host >> 20} MiB"
        raise StartError(f"cannot set up guest memory: {sizes}")


def _make_memory(size: int) -> AddressMap:
    try:
        memory = AddressMap(RamWindow(size + layout.DEVICE_MEMORY))
    except RamError as error:
        raise StartError(f"cannot set up guest memory: {error}") from error
    for block in layout.ram_blocks(size):
        memory.add_ram(block.physical, block.length, block.offset)
    return memory


def _make_vcpu(
    options: Options, memory: AddressMap, log: Log, stack: ExitStack, bus: CpuBus
) -> Vcpu:
    names = options.accelerators or ["tcg"]
    try:
        for following in (*names[1:], None):
            try:
                vcpu = _MAKERS[names.pop(0)](options, memory, log, bus)
                break
            except KvmError as error:
                if following is None:
                    raise
                complain(error)
                complain(f"falling back to {following}")
    except ValueError as error:  # an unknown model or feature
        raise StartError(str(error)) from error
    if log.enabled("stats"):
        stack.callback(lambda: log.write(vcpu.stats.text()))
    return vcpu


def _make_tcg(options: Options, memory: AddressMap, log: Log, bus: CpuBus) -> Vcpu:
    warning = cpu_warning(options.cpu)
    if warning is not None:
        complain(f"warning: {warning}")
    return make_vcpu(memory, bus, model=options.cpu, tier=options.tier, log=log,
                     tb_size=options.tb_size << 20, perf=options.perf)  # fmt: skip


def _make_kvm(options: Options, memory: AddressMap, log: Log, bus: CpuBus) -> Vcpu:
    del log
    return make_kvm_vcpu(memory, bus, model=options.cpu, irqchip=options.irqchip)


def _make_qtest(options: Options, memory: AddressMap, log: Log, bus: CpuBus) -> Vcpu:
    from pytcg.machine.qtest.vcpu import QtestVcpu

    del options, memory, log, bus
    return QtestVcpu()


_MAKERS: dict[str, Callable[[Options, AddressMap, Log, CpuBus], Vcpu]] = {
    "tcg": _make_tcg, "kvm": _make_kvm, "qtest": _make_qtest,
}  # fmt: skip


@contextmanager
def _open_log(options: Options) -> Iterator[Log]:
    """The debug log, on stderr unless it has a file of its own."""
    if options.log_file is None:
        yield Log(options.log_items, sys.stderr)
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open(options.log_file, "w", encoding="utf-8"))
        except OSError as error:
            name = options.log_file
            raise StartError(f"could not open log file '{name}': {error.strerror}") from error
        yield Log(options.log_items, stream)
