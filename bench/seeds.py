"""Writes the seed list: the instruction forms that booting Linux and using its shell meet.

    python -m bench.seeds > frontends/pytcg_x86/decode/seeds.txt

A first run compiles these before it starts. The list is made by booting with an object cache of its
own and writing down what was compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytcg_x86.decode.seeds import format_seeds

COMMANDS = (
    "ls -l / /bin | head; cat /proc/cpuinfo /proc/meminfo /proc/interrupts; dmesg | tail",
    "i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo $((i*7%5)); uname -a; free; ps; df",
    "dd if=/dev/urandom of=/tmp/a bs=4k count=64; md5sum /tmp/a; sha256sum /tmp/a; gzip /tmp/a",
    "echo 'scale=20; 4*a(1)' | bc -l; awk 'BEGIN{for(i=0;i<99;i++)s+=sqrt(i)/3;print s,sin(1)}'",
    "seq 1 500 | sort -rn | uniq | sed s/1/x/ | grep -c x; find / -xdev | wc -l; vi --help",
    "printf '%f %e %g\\n' 3.25 1e30 7; date; sleep 0.1; time true; kill -0 $$; poweroff",
)
"""Typed at the prompt, so that the shell's everyday work is in the list too."""


def boot_and_type(cache: Path, guest: Path) -> None:
    """Boot with the cache folder ``cache``; type all commands."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTCG_NO_SEEDS": "1"}
    command = [sys.executable, "-m", "pytcg.cli.system", "-m", "256", "-nographic",
               "-kernel", str(guest / "vmlinuz"), "-initrd", str(guest / "initramfs.cpio"),
               "-append", "console=ttyS0"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=environment) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        seen, todo = b"", list(COMMANDS)
        while chunk := os.read(process.stdout.fileno(), 65536):
            seen += chunk
            if seen.endswith((b"# ", b"# \x1b[6n")) and todo:
                seen = b""
                time.sleep(0.5)
                process.stdin.write(todo.pop(0).encode() + b"\n")
                process.stdin.flush()


def compiled_keys(cache: Path) -> set[int]:
    """Keys of all packs in an object cache."""
    from pytcg_llvm.cache import ObjectCache
    from pytcg_threaded.engine import HANDLERS
    from pytcg_threaded.identity import source_identity
    from pytcg_threaded.packs import HandlerPack

    objects = ObjectCache(source_identity(), cache / "pytcg" / "objects")
    keys: set[int] = set()
    for name in objects.names(HANDLERS):
        pack = objects.load(name)
        if pack is not None:
            keys |= HandlerPack.from_bytes(pack).effects.keys()
    return keys


def main() -> None:
    """Boot, then print the list."""
    from pytcg_llvm.cache import user_cache

    with tempfile.TemporaryDirectory() as folder:
        boot_and_type(Path(folder), Path(user_cache(), "guest"))
        print("# Made by `python -m bench.seeds`.")
        print(format_seeds(compiled_keys(Path(folder))), end="")


if __name__ == "__main__":
    main()
