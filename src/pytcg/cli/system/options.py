"""The command line in QEMU's spelling: the option table, and the parser it drives.

QEMU's grammar is not getopt's: long options with one dash or two, every value in the next word, and
comma-separated properties inside a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pytcg.cli.system.accel_option import set_accel, set_enable_kvm, set_perfmap
from pytcg.cli.system.debug_options import set_gdb, set_gdb_default, set_qtest, set_qtest_log
from pytcg.cli.system.display_options import check_curses, set_display, set_vga
from pytcg.cli.system.drive_options import (
    set_blockdev,
    set_cdrom,
    set_device,
    set_disk,
    set_drive,
    set_floppy,
    set_snapshot,
)
from pytcg.cli.system.firmware_options import (
    boot_options,
    set_bios,
    set_boot,
    set_pflash,
    set_rom_folder,
    set_smbios,
    set_uuid,
)
from pytcg.cli.system.fsdev_options import set_fsdev, set_virtfs
from pytcg.cli.system.machine_option import set_machine, set_no_hpet
from pytcg.cli.system.monitor_options import (
    set_chardev,
    set_mon,
    set_monitor,
    set_paused,
    set_qmp,
    set_qmp_pretty,
)
from pytcg.cli.system.object_option import set_object
from pytcg.cli.system.option_values import (
    Information,
    OptionError,
    Options,
    must_be_none,
    set_append,
    set_cpu,
    set_debugcon,
    set_global,
    set_initrd,
    set_kernel,
    set_log,
    set_log_file,
    set_memory,
    set_no_reboot,
    set_no_shutdown,
    set_nodefaults,
    set_nographic,
    set_parallel,
    set_serial,
    set_smp,
)
from pytcg.cli.system.process_options import (
    set_add_fd,
    set_audiodev,
    set_daemonize,
    set_message,
    set_name,
    set_no_user_config,
    set_overcommit,
    set_pid_file,
    set_sandbox,
)
from pytcg.cli.system.resume import set_incoming, set_loadvm
from pytcg.cli.system.rtc_option import set_rtc
from pytcg.cli.system.vnc_option import set_vnc


class Option(NamedTuple):
    """One row of the table; `argument` is empty for options that take none."""

    names: str
    argument: str
    apply: Callable[[Options, str], None]
    help: str


def _version(options: Options, text: str) -> None:
    from pytcg import __version__

    del options, text
    raise Information(f"pytcg emulator version {__version__}\n")


def _help(options: Options, text: str) -> None:
    del options, text
    raise Information(help_text())


OPTIONS: Final = (
    Option("h help", "", _help, "display this help and exit"),
    Option("version", "", _version, "display the version and exit"),
    Option("machine M", "[type=]pc[,hpet=off][,graphics=off][,smm=on]", set_machine,
           "select the machine (-machine help lists them)"),
    Option("no-hpet", "", set_no_hpet, "the same as -machine hpet=off"),
    Option("cpu", "NAME[,+feature,-feature]", set_cpu, "select the CPU (-cpu help lists them)"),
    Option("accel", "[accel=]tcg|kvm|qtest[:tcg][,tier=auto|threaded|jit|python][,tb-size=MIB]"
           "[,perf=on]", set_accel, "select the engine; given again: what to fall back to"),
    Option("perfmap", "", set_perfmap, "name native code in /tmp/perf-PID.map, for perf"),
    Option("enable-kvm", "", set_enable_kvm, "run on the host's processor, as -accel kvm"),
    Option("smp", "[cpus=]1", set_smp, "number of CPUs"),
    Option(
        "m", "[size=]MEGS", set_memory, "guest memory, 128 MiB if not given; K, M, G and T work"
    ),
    Option("name", "[guest=]STRING[,process=STRING][,debug-threads=on]", set_name,
           "name of the guest"),
    Option("no-user-config", "", set_no_user_config, "accepted: no configuration file is read"),
    Option("msg", "[timestamp=on][,guest-name=on]", set_message, "what stands before messages"),
    Option("overcommit", "[mem-lock=off][,cpu-pm=off]", set_overcommit, "as it is anyway"),
    Option("rtc", "[base=]utc|localtime|DATETIME[,clock=host][,driftfix=none]", set_rtc,
           "what the real-time clock shows at first"),
    Option("add-fd", "set=N,fd=M[,opaque=TEXT]", set_add_fd,
           "a descriptor for path=/dev/fdset/N of character devices"),
    Option("audiodev", "none,id=NAME", set_audiodev, "no sound"),
    Option("sandbox", "on|off", set_sandbox, "off: there is no system call filter"),
    Option("daemonize", "", set_daemonize, "go to the background once the machine is there"),
    Option("pidfile", "FILE", set_pid_file, "write the process's number there"),
    Option("fda", "FILE", set_floppy(0), "a floppy image in the first drive; -fdb: the second"),
    Option("fdb", "FILE", set_floppy(1), "a floppy image in the second drive"),
    Option("hda", "FILE", set_disk(0), "a disk image as IDE disk 0; -hdb, -hdc, -hdd: 1, 2, 3"),
    Option("hdb", "FILE", set_disk(1), "IDE disk 1"),
    Option("hdc", "FILE", set_disk(2), "IDE disk 2"),
    Option("hdd", "FILE", set_disk(3), "IDE disk 3"),
    Option("cdrom", "FILE", set_cdrom, "an ISO image in the CD-ROM drive (IDE 2)"),
    Option("drive", "[file=]FILE[,if=ide|virtio|floppy|pflash|none][,media=disk|cdrom]...",
           set_drive, "a drive: index, format, id, cache, snapshot, readonly, discard..."),
    Option("blockdev", "[driver=]DRIVER,node-name=NAME[,option=value...]", set_blockdev,
           "a block node for a device's drive="),
    Option("snapshot", "", set_snapshot, "keep the images as they are: writes are thrown away"),
    Option("device", "DRIVER[,property=value...]", set_device, "add a device (-device help)"),
    Option("object", "KIND,id=NAME[,property=value...]", set_object,
           "a memory backend, a secret (-object help)"),
    Option("fsdev", "local|proxy|synth,id=NAME[,path=FOLDER,security_model=MODEL][,readonly=on]...",
           set_fsdev, "a folder for a virtio-9p-pci device"),
    Option("virtfs", "local|proxy|synth,mount_tag=TAG[,path=FOLDER,security_model=MODEL]...",
           set_virtfs, "a folder that the guest mounts by its tag"),
    Option("bios", "FILE", set_bios, "the firmware, bios-256k.bin if not given"),
    Option("L", "FOLDER", set_rom_folder, "look for firmware there first"),
    Option("pflash", "FILE", set_pflash, "flash memory with firmware; a second one for variables"),
    Option("boot", "[order=]LETTERS[,once=LETTERS][,menu=on][,splash-time=MS]...", set_boot,
           "a floppy, c disk, d CD-ROM, n network; splash, reboot-timeout"),
    Option("smbios", "type=N[,field=value...]", set_smbios, "fields of SMBIOS structures"),
    Option("uuid", "UUID", set_uuid, "the machine's, for SMBIOS"),
    Option("kernel", "BZIMAGE", set_kernel, "boot this Linux kernel"),
    Option("append", "CMDLINE", set_append, "its command line"),
    Option("initrd", "FILE", set_initrd, "its initial ramdisk"),
    Option("serial", "CHARDEV", set_serial, "connect the next serial port (up to four)"),
    Option("parallel", "CHARDEV", set_parallel, "connect the next parallel port (up to three)"),
    Option("debugcon", "CHARDEV", set_debugcon, "connect the debug console (port 0xe9)"),
    Option("global", "DRIVER.PROPERTY=VALUE", set_global, "set a property: isa-debugcon.iobase"),
    Option("nographic", "", set_nographic, "first serial port on the terminal, Ctrl-A h helps"),
    Option("vga", "std|none", set_vga, "the display card"),
    Option("display", "none|curses|vnc=ADDRESS", set_display, "who shows it"),
    Option("vnc", "[HOST]:DISPLAY|unix:PATH[,password=on][,websocket=on|PORT]...", set_vnc,
           "show it to VNC viewers (-vnc help)"),
    Option("chardev", "BACKEND,id=NAME[,mux=on][,logfile=FILE]...", set_chardev,
           "a character device with a name (-chardev help)"),
    Option("mon", "[chardev=]NAME[,mode=readline|control][,pretty=on]", set_mon,
           "a monitor on a named character device"),
    Option("monitor", "CHARDEV", set_monitor, "the human monitor; Ctrl-A c with -nographic"),
    Option("qmp-pretty", "CHARDEV", set_qmp_pretty, "as -qmp, with JSON for people"),
    Option("qmp", "CHARDEV", set_qmp, "control the machine by QMP: unix:PATH,server=on,wait=off"),
    Option("loadvm", "TAG", set_loadvm, "go on from a snapshot that savevm made"),
    Option("incoming", "file:PATH|defer", set_incoming, "go on from what migrate wrote"),
    Option("S", "", set_paused, "wait for a monitor's cont, or GDB's, before the guest starts"),
    Option("gdb", "CHARDEV", set_gdb, "serve GDB: tcp::1234, unix:PATH,server=on,wait=off"),
    Option("s", "", set_gdb_default, "shorthand for -gdb tcp::1234"),
    Option("qtest", "CHARDEV", set_qtest, "let a test drive the devices (-accel qtest)"),
    Option("qtest-log", "FILE", set_qtest_log, "write what it says there: none, /dev/fd/2"),
    Option("net", "none", must_be_none("net", "network"), "there is none"),
    Option("nic", "none", must_be_none("nic", "network"), "there is none"),
    Option("nodefaults", "", set_nodefaults, "no serial port unless asked for"),
    Option("no-shutdown", "", set_no_shutdown, "stop the machine when the guest powers off"),
    Option("no-reboot", "", set_no_reboot, "exit instead of rebooting"),
    Option("d", "ITEM[,...]", set_log, "log items (-d help lists them)"),
    Option("D", "FILE", set_log_file, "write the log there instead of to stderr"),
)
BY_NAME: Final = {name: option for option in OPTIONS for name in option.names.split()}

USAGE: Final = "usage: pytcg-system-x86_64 [options] [disk image]\n\n"
NOTES: Final = """
CHARDEV is stdio, mon:stdio (with Ctrl-A escapes), file:PATH, pipe:PATH, pty, ringbuf, null, none,
unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT (with server=on, wait=off), udp:HOST:PORT, chardev:NAME.
Without -serial the first serial port is on the terminal, as with -nographic.
"""


def help_text() -> str:
    """What -h prints: made from the table."""
    rows = []
    for option in OPTIONS:
        left = " or ".join(f"-{name}" for name in option.names.split())
        left = f"{left} {option.argument}".rstrip()
        gap = "  " if len(left) < 30 else "\n" + " " * 32
        rows.append(f"{left:<30}{gap}{option.help}\n")
    return USAGE + "".join(rows) + NOTES


def parse(words: Sequence[str]) -> Options:
    """The options of a command line; OptionError says what is wrong, Information what was asked."""
    options = Options()
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            set_disk(0)(options, word)
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        option = BY_NAME.get(name)
        if option is None:
            raise OptionError(f"{word}: invalid option")
        value = ""
        if option.argument:
            following = next(rest, None)
            if following is None:
                raise OptionError(f"{word}: requires an argument")
            value = following
        option.apply(options, value)
    _check(options)
    return options


def _check(options: Options) -> None:
    if options.daemonize and options.nographic and options.defaults:
        raise OptionError("-nographic cannot be used with -daemonize")
    if options.curses:
        check_curses(options)
    boot_options(options.boot)
    if options.kernel is None:
        for name in ("initrd", "append"):
            if getattr(options, name) is not None:
                raise OptionError(f"-{name} only allowed with -kernel option")


def serial_ports(options: Options) -> list[str]:
    """The chardevs of the serial ports: on the terminal unless something else was asked for."""
    named = any(name == "isa-serial" for name, _ in options.devices)
    if options.serial or named or not options.defaults:
        return list(options.serial)
    if options.curses:
        return ["vc"]
    if any(monitor.chardev != "none" for monitor in options.monitors if not monitor.control):
        return ["null" if _stdio_is_taken(options) else "stdio"]
    return ["null" if _stdio_is_taken(options) else "mon:stdio"]


def parallel_ports(options: Options) -> list[str]:
    """The chardevs of the parallel ports: there is one, whose output goes nowhere, by itself."""
    named = any(name == "isa-parallel" for name, _ in options.devices)
    if options.parallel or named or not options.defaults:
        return list(options.parallel)
    return ["null"]


def _stdio_is_taken(options: Options) -> bool:
    """Whether something that was named sits on the terminal."""
    named = [monitor.chardev for monitor in options.monitors] + [options.debugcon or ""]
    named += options.parallel
    return any(spec.partition(",")[0] == "stdio" for spec in named) or any(
        option.kind == "stdio" for option in options.chardevs)
