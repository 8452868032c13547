"""Get a guest to boot: the distribution's kernel, a busybox initramfs and firmware, without root.

`python -m pytcg.cli.guest` leaves `vmlinuz` and `initramfs.cpio` in the cache folder, and the BIOS
if its package isn't installed, and prints the folder's name.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from pytcg.cli import initramfs
from pytcg.cli.folders import guest_folder

# Meta-packages that depend on the newest kernel image, smallest first: Debian's, then Ubuntu's.
KERNEL_PACKAGES: Final = ("linux-image-cloud-amd64", "linux-image-amd64", "linux-image-virtual")
BUSYBOX_PACKAGE: Final = "busybox-static"
FIRMWARE_PACKAGE: Final = "seabios"
FIRMWARE: Final = ("bios-256k.bin", "vgabios-stdvga.bin")
KERNEL: Final = "vmlinuz"
BUSYBOX: Final = "busybox"
INITRAMFS: Final = "initramfs.cpio"


class GuestError(Exception):
    """The guest's files can't be had; the text says which step failed."""


def cache_folder() -> Path:
    """Where all that lies."""
    return Path(guest_folder())


def progress(text: str) -> None:
    """One line on a terminal, nothing in a log."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


class Apt:
    """apt's commands, run as the user: with the system's package lists or with private ones."""

    def __init__(self, folder: Path, architecture: str = "amd64") -> None:
        self.folder = folder
        self.architecture = architecture
        self.options: list[str] = []

    def run(self, *command: str) -> str:
        """Standard output of one apt command; GuestError with apt's own words if it fails."""
        arguments = [command[0], *self.options, *command[1:]]
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            result = subprocess.run(
                arguments, cwd=self.folder, env=environment, capture_output=True, text=True
            )
        except OSError as error:
            raise GuestError(f"{command[0]}: {error.strerror} (is this Debian?)") from error
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
            raise GuestError(f"{' '.join(command)}: {(lines or ['failed'])[0]}")
        return result.stdout

    def use_private_lists(self) -> None:
        """Fetch the package lists into our folder: apt's own need root to be updated."""
        progress("fetching the package lists")
        state, cache = self.folder / "state", self.folder / "cache"
        (state / "lists" / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        self.options = [
            "-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}",
            "-o", "Dir::State::status=/var/lib/dpkg/status",
            "-o", f"APT::Architecture={self.architecture}",
            "-o", f"APT::Architectures::={self.architecture}",
            # The hooks of the machine's own configuration are for root.
            "-o", "APT::Update::Post-Invoke-Success::=", "-o", "APT::Sandbox::User=",
        ]  # fmt: skip
        try:
            self.run("apt-get", "update")
        except GuestError:
            if not any((state / "lists").glob("*_Packages*")):
                raise  # else one of several sources failed, and the others may do

    def kernel_package(self) -> str:
        """The image package that the first known meta-package depends on."""
        return self.newest(*KERNEL_PACKAGES)

    def newest(self, *packages: str) -> str:
        """The image package that the first known one of these depends on."""
        for meta in packages:
            try:
                text = self.run("apt-cache", "depends", "--no-recommends", meta)
            except GuestError:
                continue
            if found := re.search(r"^ +Depends: (linux-image-\d\S*)$", text, re.MULTILINE):
                return found.group(1)
        raise GuestError(f"no package of {', '.join(packages)} is known to apt")

    def download(self, package: str) -> Path:
        """The package file of the newest version, in our folder."""
        progress(f"fetching {package}")
        self.run("apt-get", "download", package)
        return next(self.folder.glob(f"{package}_*.deb"))


def extract(package: Path, pattern: str) -> bytes:
    """The contents of the package's one file whose name matches; links are not followed."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if member.isfile() and fnmatch(member.name, pattern):
                file = archive.extractfile(member)
                assert file is not None
                data = file.read()
                process.kill()
                return data
    raise GuestError(f"{package.name} holds no {pattern}")


def publish(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a whole file or none: another process never sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def download_all(work: Path, names: Callable[[Apt], list[str]]) -> list[Path]:
    """Package files, by the system's package lists or else by lists fetched for it."""
    apt = Apt(work)
    try:
        return [apt.download(name) for name in names(apt)]
    except GuestError:  # no lists, or lists that name versions the mirror has dropped
        apt.use_private_lists()
        return [apt.download(name) for name in names(apt)]


def fetch(cache: Path) -> None:
    """Download what is missing and unpack it into the cache folder."""
    work = Path(tempfile.mkdtemp(dir=cache, prefix=".fetch."))
    try:
        packages = download_all(work, lambda apt: [apt.kernel_package(), BUSYBOX_PACKAGE])
        progress("unpacking")
        publish(cache / KERNEL, extract(packages[0], "./boot/vmlinuz-*"))
        publish(cache / BUSYBOX, extract(packages[1], "*bin/busybox"), 0o755)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def fetch_firmware(cache: Path) -> None:
    """Download the BIOS and the VGA BIOS and unpack them into the cache folder."""
    work = Path(tempfile.mkdtemp(dir=cache, prefix=".fetch."))
    try:
        package = download_all(work, lambda apt: [FIRMWARE_PACKAGE])[0]
        for name in FIRMWARE:
            publish(cache / name, extract(package, f"./usr/share/seabios/{name}"))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def ensure_firmware(cache: Path, *, fetcher: Callable[[Path], None] = fetch_firmware) -> None:
    """Make the firmware be there, unless the distribution's package is installed."""
    from pytcg.machine.roms import RomFinder

    finder = RomFinder(cache=cache)
    if any(finder.find(name) is None for name in FIRMWARE):
        fetcher(cache)


def applets_of(busybox: Path) -> list[str]:
    """The commands this busybox has; asked of it by running it."""
    try:
        result = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise GuestError(f"{busybox}: {error}") from error
    return result.stdout.split()


def ensure(cache: Path, *, fetcher: Callable[[Path], None] = fetch, refresh: bool = False) -> None:
    """Make `vmlinuz` and `initramfs.cpio` be there and current; quick when they are."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    busybox = cache / BUSYBOX
    if refresh or not busybox.exists() or not (cache / KERNEL).exists():
        fetcher(cache)
    archive = initramfs.build(busybox.read_bytes(), applets_of(busybox))
    target = cache / INITRAMFS
    if not target.exists() or target.read_bytes() != archive:
        publish(target, archive)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the guest builder."""
    parser = argparse.ArgumentParser(prog="python -m pytcg.cli.guest", description=__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder for the files")
    parser.add_argument("--refresh", action="store_true", help="fetch again")
    options = parser.parse_args(arguments)
    try:
        ensure(options.cache, refresh=options.refresh)
        ensure_firmware(options.cache)
    except (GuestError, OSError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    print(options.cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
