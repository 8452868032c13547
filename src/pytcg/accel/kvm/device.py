"""/dev/kvm, a virtual machine and its processors as files that take ioctls."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Any, Final

from pytcg.accel.kvm.abi import API_VERSION, IOCTLS, Cap, counted, struct
from pytcg.accel.kvm.errors import KvmError as KvmError

DEVICE: Final = "/dev/kvm"
NEEDED: Final = (Cap.USER_MEMORY, Cap.EXT_CPUID, Cap.VCPU_EVENTS, Cap.DEBUGREGS, Cap.XSAVE,
                 Cap.XCRS, Cap.READONLY_MEM, Cap.IMMEDIATE_EXIT)  # fmt: skip
_TSS_ADDRESS: Final = 0xFEFF_D000  # three pages below the BIOS, as QEMU has them
_IDENTITY_MAP: Final = 0xFEFF_C000
_CPUID_ROWS: Final = 256


class KvmFile:
    """A file that takes KVM's ioctls."""

    def __init__(self, fd: int):
        self.fd = fd

    def ioctl(self, name: str, argument: Any = 0) -> int:
        """KVM_``name`` with a number or structure; KvmError."""
        try:
            if isinstance(argument, int):
                return fcntl.ioctl(self.fd, IOCTLS[name], argument)
            result: int = fcntl.ioctl(self.fd, IOCTLS[name], argument, True)
            return result
        except OSError as error:
            raise KvmError(f"KVM_{name} failed: {error.strerror}") from error

    def get(self, name: str, kind: str) -> Any:
        """KVM_GET_``name``'s structure."""
        made = struct(kind)
        self.ioctl(f"GET_{name}", made)
        return made

    def close(self) -> None:
        """Close it; twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def _set_tss_address(vm: KvmFile) -> None:
    """KVM_SET_TSS_ADDR's number is above what `fcntl.ioctl` passes: an int."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ioctl(vm.fd, IOCTLS["SET_TSS_ADDR"], ctypes.c_ulong(_TSS_ADDRESS)) < 0:
        raise KvmError(f"KVM_SET_TSS_ADDR failed: {os.strerror(ctypes.get_errno())}")


class Kvm(KvmFile):
    """/dev/kvm; KvmError if it can't serve."""

    def __init__(self) -> None:
        self.fd = -1
        try:
            super().__init__(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise KvmError(f"Could not access KVM kernel module: {error.strerror}") from error
        version = self.ioctl("GET_API_VERSION")
        if version != API_VERSION:
            age = "old" if version < API_VERSION else "not supported"
            raise KvmError(f"kvm version {'too ' * (age == 'old')}{age}")
        missing = [cap.name for cap in NEEDED if not self.ioctl("CHECK_EXTENSION", cap)]
        if missing:
            raise KvmError(f"kvm does not support {', '.join(missing)}")
        self.run_size = self.ioctl("GET_VCPU_MMAP_SIZE")

    def has(self, cap: Cap) -> int:
        """What the kernel says of a capability; 0: not there."""
        return self.ioctl("CHECK_EXTENSION", cap)

    def supported_cpuid(self) -> list[Any]:
        """What CPUID may tell a guest, as rows of kvm_cpuid_entry2."""
        made = counted("cpuid_entry", _CPUID_ROWS)
        self.ioctl("GET_SUPPORTED_CPUID", made)
        return list(made.rows[: made.count])

    def create_vm(self) -> KvmFile:
        """A virtual machine without processors or memory."""
        while True:
            try:
                vm = KvmFile(fcntl.ioctl(self.fd, IOCTLS["CREATE_VM"], 0))
                break
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise KvmError(f"ioctl(KVM_CREATE_VM) failed: {error.strerror}") from error
        if self.has(Cap.SET_IDENTITY_MAP_ADDR):
            address = struct("u64")
            address.value = _IDENTITY_MAP
            vm.ioctl("SET_IDENTITY_MAP_ADDR", address)
        if self.has(Cap.SET_TSS_ADDR):
            _set_tss_address(vm)
        return vm
