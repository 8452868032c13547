"""The command line: QEMU's spelling, one line for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pytcg.cli.system.option_values import Information, OptionError, parse_size, properties
from pytcg.cli.system.options import OPTIONS, help_text, parse, serial_ports

MIB = 1 << 20


def words(line: str) -> list[str]:
    """A command line with a kernel, so that it boots something."""
    return [*line.split(), "-kernel", "vmlinuz"]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("", "memory", 128 * MIB),
        ("-m 256", "memory", 256 * MIB),
        ("-m 256M", "memory", 256 * MIB),
        ("-m 2G", "memory", 2048 * MIB),
        ("-m 1.5g", "memory", 1536 * MIB),
        ("-m size=64m", "memory", 64 * MIB),
        ("--m 4096k", "memory", 4 * MIB),
        ("-initrd x.img", "initrd", "x.img"),
        ("-append quiet", "append", "quiet"),
        ("-no-reboot", "no_reboot", True),
        ("--no-reboot", "no_reboot", True),
        ("-cpu qemu64,+sse3,-aes", "cpu", "qemu64,+sse3,-aes"),
        ("-smp 1", "smp", None),
        ("-smp cpus=1,cores=1", "smp", None),
        ("-M pc", "machine", None),
        ("-machine type=pc,accel=tcg", "machine", None),
        ("-accel tcg", "tier", "auto"),
        ("-accel kvm:tcg", "accelerators", ["kvm", "tcg"]),
        ("-accel kvm,kernel-irqchip=off -accel tcg,tier=jit", "accelerators", ["kvm", "tcg"]),
        ("-machine pc,accel=kvm:tcg,kernel_irqchip=off", "accelerators", ["kvm", "tcg"]),
        ("-enable-kvm", "accelerators", ["kvm"]),
        ("-accel tcg,tier=python", "tier", "python"),
        ("-accel tcg,tb-size=64,thread=multi", "tb_size", 64),
        ("-accel tcg,perf=on", "perf", True),
        ("-perfmap", "perf", True),
        ("-d in_asm,int", "log_items", frozenset({"in_asm", "int"})),
        ("-d op -d exec", "log_items", frozenset({"op", "exec"})),
        ("-D trace.log", "log_file", "trace.log"),
        ("-device isa-debug-exit", "devices", [("isa-debug-exit", {})]),
        ("-device isa-debug-exit,iobase=0xf4,iosize=0x04", "devices",
         [("isa-debug-exit", {"iobase": "0xf4", "iosize": "0x04"})]),
        ("-debugcon stdio", "debugcon", "stdio"),
        ("-name guest", "name", "guest"),
        ("-display none -monitor none -vga none -net none -nic none -parallel none", "name", ""),
    ],
)
def test_option(line: str, name: str, value: Any) -> None:
    options = parse(words(line))
    if value is not None:
        assert getattr(options, name) == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-foo", "-foo: invalid option"),
        ("--foo", "--foo: invalid option"),
        ("-", "-: invalid option"),
        ("-m x", "-m x: invalid size 'x'"),
        ("-m -5", "-m -5: invalid size '-5'"),
        ("-m 0", "-m 0: the guest needs some memory"),
        ("-m 1G,slots=2", "-m: invalid parameter 'slots'"),
        ("-smp 2", "-smp 2: Invalid SMP CPUs. The max CPUs supported by machine 'pc' is 1"),
        ("-smp x", "-smp x: Invalid SMP CPUs. The max CPUs supported by machine 'pc' is 1"),
        ("-M isapc", "unsupported machine type 'isapc'"),
        ("-M pc,foo=on", "-machine: invalid parameter 'foo'"),
        ("-M pc,usb=on", "-machine usb=on: 'usb' is not there on this board"),
        ("-M pc,hpet=x", "-machine hpet=x: expected 'on' or 'off'"),
        ("-accel xen", "invalid accelerator xen"),
        ("-machine accel=kvm:hvf", "invalid accelerator hvf"),
        ("-accel kvm,tier=jit", "-accel: invalid parameter 'tier'"),
        ("-accel tcg,tb-size=1G", "-accel tcg,tb-size=1G: expected a number of MiB"),
        ("-accel tcg,perf=1", "-accel tcg: Parameter 'perf' expects 'on' or 'off'"),
        ("-accel tcg,thread=2", "-accel tcg,thread=2: expected 'single' or 'multi'"),
        ("-accel kvm,kernel-irqchip=maybe",
         "kernel-irqchip=maybe: expected 'on', 'off' or 'split'"),
        ("-accel tcg,tier=x",
         "-accel tcg,tier=x: invalid tier 'x', not one of auto, threaded, jit, python"),
        ("-d in_asm,x", "Invalid log item specified in \"-d in_asm,x\": 'x'"),
        ("-device e1000", "-device e1000: 'e1000' is not a valid device model name"),
        ("-device isa-debug-exit,port=1",
         "-device isa-debug-exit,port=1: Property 'isa-debug-exit.port' not found"),
        ("-device isa-debug-exit,iobase=q",
         "-device isa-debug-exit,iobase=q: Property 'isa-debug-exit.iobase' expects a number,"
         " not 'q'"),
        ("-display gtk", "-display gtk: Parameter 'type' does not accept value 'gtk'"),
        ("-display vnc", "-display vnc: VNC requires a display argument vnc=<display>"),
        ("-vnc 1", "-vnc 1: no vnc port specified"),
        ("-vnc :1,foo=on", "-vnc :1,foo=on: Invalid parameter 'foo'"),
        ("-vnc :1,password=maybe", "-vnc :1,password=maybe: Parameter 'password' expects 'on' "
         "or 'off'"),
        ("-vnc :1,share=bad", "-vnc :1,share=bad: unknown vnc share= option"),
        ("-vnc :1,to=x", "-vnc :1,to=x: Parameter 'to' expects a number"),
        ("-vnc :1,password=on,password-secret=x",
         "-vnc :1,password=on,password-secret=x: 'password' flag is redundant "
         "with 'password-secret'"),
        ("-vnc :1,id=a -vnc :2,id=a", "-vnc :2,id=a: Duplicate ID 'a' for vnc"),
        ("-vnc :1,power-control=on", "-vnc :1,power-control=on: 'power-control' is not there"),
        ("-vnc :1,sasl=on", "-vnc :1,sasl=on: 'sasl' is not there"),
        ("-vnc :1,tls-authz=x", "-vnc :1,tls-authz=x: 'tls-authz' provided but TLS is not enabled"),
        ("-rtc base=never", "-rtc base=never: invalid datetime format; valid formats:"
         " '2006-06-17T16:01:21' or '2006-06-17'"),
        ("-rtc clock=x", "-rtc clock=x: invalid option value 'x'"),
        ("-sandbox on", "-sandbox support is not enabled in this emulator"),
        ("-audiodev alsa,id=x", "-audiodev alsa,id=x: Parameter 'driver' does not accept value"
         " 'alsa'"),
        ("-object tls-creds-x509,dir=x", "-object tls-creds-x509,dir=x: Parameter 'id' is missing"),
        ("-object secret,id=s", "-object secret,id=s: Either 'file' or 'data' must be provided"),
        ("-object secret,id=s,data=a,file=b",
         "-object secret,id=s,data=a,file=b: 'file' and 'data' are mutually exclusive"),
        ("-object secret,id=s,data=a,format=c",
         "-object secret,id=s,data=a,format=c: Parameter 'format' does not accept value 'c'"),
        ("-mon a,mode=b", "-mon a,mode=b: Parameter 'mode' does not accept value 'b'"),
        ("-nic user", "-nic user: there is no network yet"),
        ("-serial null " * 5, "-serial null: there are only 4 serial ports"),
    ],
)
def test_wrong_option_is_named(line: str, message: str | None) -> None:
    with pytest.raises(OptionError) as caught:
        parse(words(line))
    if message is not None:
        assert str(caught.value) == message


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.argument])
def test_every_option_with_an_argument_asks_for_it(option: Any) -> None:
    name = option.names.split()[0]
    with pytest.raises(OptionError, match=f"^-{name}: requires an argument$"):
        parse([f"-{name}"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-initrd x", "-initrd only allowed with -kernel option"),
        ("-append x", "-append only allowed with -kernel option"),
    ],
)
def test_a_kernel_is_needed(line: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(line.split())


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-version", "pytcg emulator version 0.1.0\n"),
        ("--version -foo", "pytcg emulator version"),
        ("-h", "usage: pytcg-system-x86_64"),
        ("-help", None),
        ("-machine help", "pc"),
        ("-accel help", "tcg"),
        ("-device help", "isa-debug-exit"),
        ("-d help", "in_asm"),
    ],
)
def test_information(line: str, text: str | None) -> None:
    with pytest.raises(Information) as caught:
        parse(line.split())
    assert text is None or text in str(caught.value)


def test_help_lists_every_option() -> None:
    text = help_text()
    for option in OPTIONS:
        for name in option.names.split():
            assert f"-{name}" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(
    ("line", "ports"),
    [
        ("", ["mon:stdio"]),
        ("-nographic", ["mon:stdio"]),
        ("-serial stdio", ["stdio"]),
        ("-serial none", ["none"]),
        ("-serial file:a -serial null", ["file:a", "null"]),
        ("-nodefaults", []),
        ("-nodefaults -nographic", []),
    ],
)
def test_serial_ports(line: str, ports: list[str]) -> None:
    assert serial_ports(parse(words(line))) == ports


def test_sizes_without_a_unit_take_the_callers() -> None:
    assert parse_size("3", unit="k") == 3072
    assert parse_size("1b", unit="k") == 1


def test_properties_keep_their_values() -> None:
    assert properties("a,b=c,d=e=f,g", "first") == {"first": "a", "b": "c", "d": "e=f", "g": "on"}


def test_options_that_managers_give() -> None:
    options = parse(words("-no-user-config -name guest=box,debug-threads=on -pidfile /run/x.pid"
                          " -msg timestamp=on -overcommit mem-lock=off,cpu-pm=off"))  # fmt: skip
    assert (options.name, options.pid_file, options.message_time) == ("box", "/run/x.pid", True)
    assert parse(words("-name box")).name == "box"
    for line in ("-overcommit mem-lock=on", "-msg timestamp=perhaps", "-name x,debug-threads=7",
                 "-name x,nope=1"):
        with pytest.raises(OptionError):
            parse(words(line))


def test_the_clock_shows_what_rtc_says() -> None:
    assert parse(words("-rtc base=2006-06-17T16:01:21,clock=vm,driftfix=slew")).epoch == 1150560081
    assert parse(words("-rtc base=2006-06-17")).epoch == 1150502400
    assert parse(words("-rtc utc")).epoch is None
    assert parse(words("-global PIIX4_PM.disable_s3=1")).sleep_states == {4, 5}
