"""What the library raises: every error names the thing it is about."""

from __future__ import annotations


class PytcgError(Exception):
    """Anything the library raises on purpose."""


class CpuError(PytcgError):
    """A wrong use of the library: unknown mode, engine or register, memory laid out wrongly."""


class MapError(CpuError):
    """Memory can't be mapped, unmapped or protected like that."""

    def __init__(self, message: str, address: int, size: int):
        super().__init__(message)
        self.address = address
        self.size = size


class UnmappedError(CpuError):
    """A read or write outside of what is mapped, by the host (the guest gets a page fault)."""

    def __init__(self, message: str, address: int, size: int):
        super().__init__(message)
        self.address = address
        self.size = size


class RegisterError(CpuError, KeyError, ValueError):
    """No such register, or a value that does not fit it."""

    __str__ = Exception.__str__


class BusyError(CpuError):
    """The processor is running already, in another thread or further up."""


class DeviceCodeError(CpuError):
    """The guest jumped to a device's memory, from which no code can be run."""


class HookError(CpuError):
    """A hook that can't be: unknown kind or mnemonic, empty range, native code of another form."""


class SnapshotError(CpuError):
    """A snapshot of another processor, or one that is not there any more."""


class LoadError(CpuError):
    """A program file that can't be loaded."""


class AssemblyError(CpuError):
    """Text that the assembler does not take."""


class GuestFault(PytcgError):
    """Guest code that was called ended otherwise than by returning: see ``stop``."""

    def __init__(self, stop: object):
        super().__init__(f"the called code did not return: {stop}")
        self.stop = stop
