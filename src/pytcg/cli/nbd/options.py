"""pytcg-nbd's command line: qemu-nbd's options, understood and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytcg import __version__
from pytcg.block.open import CACHE_MODES
from pytcg.block.protocols.nbd.protocol import DEFAULT_PORT, MAX_STRING
from pytcg.cli.block_tool import ToolError, UsageError, parse_argv
from pytcg.cli.program import program_name
from pytcg.tls.credentials import add_object

TOOL = program_name("pytcg-nbd")
_SHORT = "hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:L"
_LONG = (
    "help", "version", "bind=", "offset=", "port=", "read-only", "snapshot", "nocache",
    "connect=", "disconnect", "verbose", "socket=", "shared=", "format=", "persistent",
    "load-snapshot=", "export-name=", "trace=", "description=", "allocation-depth", "bitmap=",
    "list", "cache=", "aio=", "discard=", "detect-zeroes=", "image-opts", "object=",
    "tls-creds=", "tls-hostname=", "tls-authz=", "fork", "pid-file=", "selinux-label=",
)
_FLAGS = {
    "-r": "read_only", "--read-only": "read_only", "-s": "snapshot", "--snapshot": "snapshot",
    "-t": "persistent", "--persistent": "persistent", "-v": "verbose", "--verbose": "verbose",
    "-A": "allocation_depth", "--allocation-depth": "allocation_depth", "-L": "list_exports",
    "--list": "list_exports", "--fork": "fork", "--image-opts": "image_opts",
}
_VALUES = {
    "-b": "bind", "--bind": "bind", "-p": "port", "--port": "port", "-k": "socket_path",
    "--socket": "socket_path", "-x": "export_name", "--export-name": "export_name",
    "-D": "description", "--description": "description", "-f": "image_format",
    "--format": "image_format", "--pid-file": "pid_file", "--tls-creds": "tls_creds",
    "--tls-hostname": "tls_hostname", "-l": "load_snapshot", "--load-snapshot": "load_snapshot",
}
_CHOICES = {
    "--cache": ("cache", CACHE_MODES, "Invalid cache mode `{}'"),
    "--aio": ("aio", ("native", "io_uring", "threads"), "Invalid aio mode '{}'"),
    "--discard": ("discard", ("ignore", "off", "unmap", "on"), "Invalid discard mode `{}'"),
    "--detect-zeroes": ("detect_zeroes", ("off", "on", "unmap"),
                        "Failed to parse detect_zeroes mode: invalid parameter value: {}"),
}
_KERNEL = ("-c", "--connect", "-d", "--disconnect")
_ABSENT = ("-T", "--trace", "--tls-authz", "--selinux-label")

_HELP = f"""usage: {TOOL} [OPTIONS] FILE
   or: {TOOL} -L [OPTIONS]
Serve a disk image over the Network Block Device protocol.

  -h, --help                 this text
  -V, --version              name and version
where:
  -p, --port=PORT            TCP port ({DEFAULT_PORT})
  -b, --bind=IFACE           address to listen on (0.0.0.0)
  -k, --socket=PATH          listen on a unix socket instead
  -e, --shared=NUM           clients at a time (1; 0: any number)
  -t, --persistent           stay when the last client leaves
  -v, --verbose              report what clients do wrong
  -x, --export-name=NAME     name of the export (empty)
  -D, --description=TEXT     text shown beside it
what:
  -f, --format=FORMAT        image format
  -r, --read-only            refuse writes
  -s, --snapshot             keep writes in a temporary overlay, drop them at the end
  -l, --load-snapshot=SNAP   export an internal snapshot, read-only
  -o, --offset=OFFSET        start at this byte of the image
  -A, --allocation-depth     offer the qemu:allocation-depth context
  -B, --bitmap=NAME          offer a dirty bitmap of the image
      --image-opts           FILE is a list of key=value options
how:
  -n, --nocache              same as --cache=none
      --cache=MODE           none, writeback, writethrough, directsync, unsafe
      --aio=MODE             native, io_uring, threads (no difference here)
      --discard=MODE         ignore, unmap
      --detect-zeroes=MODE   off, on, unmap
      --object TYPE,id=ID,…  tls-creds-x509 or tls-creds-psk with dir=, endpoint=, …
      --tls-creds=ID         use these credentials
      --tls-hostname=NAME    name the server's certificate must have (with -L)
      --fork                 go to the background once clients can connect
      --pid-file=PATH        write the process id here
instead:
  -L, --list                 list the exports of another server"""


@dataclass
class Settings:
    """The command line, understood."""

    bind: str | None = None
    port: str | None = None
    socket_path: str | None = None
    shared: int = 1
    persistent: bool = False
    verbose: bool = False
    export_name: str | None = None
    description: str | None = None
    image_format: str | None = None
    read_only: bool = False
    snapshot: bool = False
    load_snapshot: str | None = None
    offset: int = 0
    allocation_depth: bool = False
    bitmaps: list[str] = field(default_factory=list)
    image_opts: bool = False
    cache: str | None = None
    aio: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    tls_creds: str | None = None
    tls_hostname: str | None = None
    fork: bool = False
    pid_file: str | None = None
    list_exports: bool = False
    files: list[str] = field(default_factory=list)


def parse_settings(argv: Sequence[str]) -> Settings:
    """Understand the command line. Raises ToolError."""
    options, files = parse_argv(argv, _SHORT, _LONG)
    settings = Settings(files=files)
    for name, value in options:
        _take_option(settings, name, value)
    _check_settings(settings)
    return settings


def _take_option(settings: Settings, name: str, value: str) -> None:
    if name in _FLAGS:
        setattr(settings, _FLAGS[name], True)
    elif name in _VALUES:
        setattr(settings, _VALUES[name], value)
    elif name in ("-n", "--nocache"):
        _take_choice(settings, "--cache", "none")
    elif name in _CHOICES:
        _take_choice(settings, name, value)
    elif name in ("-e", "--shared"):
        settings.shared = _number(value, 0, (1 << 31) - 1, "Invalid shared device number '{}'")
    elif name in ("-o", "--offset"):
        settings.offset = _number(value, 0, (1 << 63) - 1, "Invalid offset '{}'")
    elif name in ("-B", "--bitmap"):
        settings.bitmaps.append(value)
    elif name == "--object":
        add_object(value)
    elif name in _KERNEL:
        raise ToolError(f"{name} needs the kernel's NBD client (the nbd module), which is not "
                        "supported; use an NBD client such as nbdfuse")
    elif name in _ABSENT:
        raise ToolError(f"{name} is not supported")
    else:
        text = _HELP if name in ("-h", "--help") else f"{TOOL} {__version__}"
        print(text)
        raise SystemExit(0)


def _take_choice(settings: Settings, name: str, value: str) -> None:
    attribute, choices, message = _CHOICES[name]
    if getattr(settings, attribute) is not None:
        either = "-n and --cache" if name == "--cache" else name
        raise ToolError(f"{either} can only be specified once")
    if value not in choices:
        raise ToolError(message.format(value))
    setattr(settings, attribute, value)


def _number(text: str, low: int, high: int, message: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ToolError(message.format(text))
    return value


def _check_settings(settings: Settings) -> None:
    if settings.list_exports:
        if settings.files:
            raise ToolError("List mode is incompatible with a file name")
        if (settings.export_name or settings.description or settings.image_format
                or settings.load_snapshot or settings.offset or settings.bitmaps
                or settings.allocation_depth or settings.aio or settings.cache
                or settings.discard):
            raise ToolError("List mode is incompatible with per-device settings")
        if settings.fork:
            raise ToolError("List mode is incompatible with forking")
    elif len(settings.files) != 1:
        raise UsageError("Invalid number of arguments")
    if settings.socket_path is not None and not settings.socket_path.startswith("/"):
        raise ToolError("socket path must be absolute")
    if settings.image_opts and settings.image_format:
        raise ToolError("--image-opts and -f are mutually exclusive")
    if settings.detect_zeroes == "unmap" and settings.discard not in ("unmap", "on"):
        raise ToolError("setting detect-zeroes to unmap is not allowed without setting discard "
                        "operation to unmap")
    for what, text in (("name", settings.export_name), ("description", settings.description)):
        if text is not None and len(text.encode(errors="replace")) > MAX_STRING:
            raise ToolError(f"export {what} '{text}' too long")
