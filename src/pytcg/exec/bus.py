"""What a board gives its vCPU, and why a vCPU comes back from the guest."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol, runtime_checkable


class ExitReason(Enum):
    """Why `Vcpu.run` returned."""

    REQUESTED = auto()  # request_exit() was called
    TRIPLE_FAULT = auto()  # the processor shut down (SDM vol. 3A 6.15, interrupt 8)
    EXCEPTION = auto()  # library only: an exception that the guest has no handler for
    HALTED = auto()  # library only: hlt
    LIMIT = auto()  # the instruction budget is used up
    DEBUG = auto()  # a debugger's point was met, or its single step is done


class CpuBus(Protocol):
    """The processor's pins. Each method is called in the vCPU's thread, with the GIL held."""

    def read_port(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes."""
        ...

    def write_port(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes."""
        ...

    def read_mmio(self, address: int, size: int) -> int:
        """Load of 1, 2, 4 or 8 bytes at a physical address that is not RAM."""
        ...

    def write_mmio(self, address: int, size: int, value: int) -> None:
        """Store of 1, 2, 4 or 8 bytes at a physical address that is not RAM."""
        ...

    def acknowledge_interrupt(self) -> int:
        """INTA: the vector to take, or -1 if nothing is pending any more."""
        ...

    def read_msr(self, index: int) -> int:
        """RDMSR of an APIC register; KeyError means #GP."""
        ...

    def write_msr(self, index: int, value: int) -> None:
        """WRMSR of an APIC register; KeyError or ValueError means #GP."""
        ...

    def fpu_error(self) -> None:
        """FERR# is asserted: an unmasked x87 exception that CR0.NE leaves to the board."""
        ...

    def read_cr8(self) -> int:
        """The task priority class, TPR[7:4]."""
        ...

    def write_cr8(self, value: int) -> None:
        """Set the task priority class; ValueError means #GP."""
        ...


@runtime_checkable
class PortRuns(Protocol):
    """What a bus may offer besides: many accesses of one port in a row (REP INS, REP OUTS)."""

    def read_port_run(self, port: int, size: int, count: int) -> bytes:
        """``count`` INs of ``size`` bytes."""
        ...

    def write_port_run(self, port: int, size: int, data: bytes) -> None:
        """OUTs of ``size`` bytes."""
        ...


@runtime_checkable
class SystemManagement(Protocol):
    """What a bus may offer besides: memory that is seen in system management mode only."""

    def set_smm(self, active: int) -> None:
        """The SMIACT# pin: the processor enters or leaves the mode."""
        ...
