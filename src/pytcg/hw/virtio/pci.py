"""virtio over PCI: the modern transport in BAR 4, the legacy one in BAR 0 (virtio 1.2, 4.1)."""

from __future__ import annotations

import struct
from typing import Final

from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State, StateError, load, save
from pytcg.hw.virtio.device import Feature, VirtioDevice
from pytcg.hw.virtio.legacy import LEGACY_SIZE, LegacyRegisters
from pytcg.hw.virtio.modern import COMMON_SIZE, CommonRegisters

VENDOR: Final = 0x1AF4
TRANSITIONAL: Final = {1: 0x1000, 2: 0x1001, 5: 0x1002, 3: 0x1003, 8: 0x1004, 4: 0x1005, 9: 0x1009}
MODERN: Final = 0x1040
CAP_VENDOR: Final = 0x09
COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000  # in BAR 4, a page each
PAGE: Final = 0x1000
MULTIPLIER: Final = 4
COMMON_CFG, NOTIFY_CFG, ISR_CFG, DEVICE_CFG, PCI_CFG = 1, 2, 3, 4, 5
QUEUE_ISR: Final = 1
CONFIG_ISR: Final = 2


class VirtioPci(PciDevice):
    """A card with a virtio device on it. Its identity depends on the device and the transports."""

    def __init__(self, device: VirtioDevice, class_code: int, *, legacy: bool = True,
                 modern: bool = True, vectors: int | None = None) -> None:  # fmt: skip
        self.device = device
        legacy = legacy and device.kind in TRANSITIONAL
        modern = modern or not legacy
        number = TRANSITIONAL[device.kind] if legacy else MODERN + device.kind
        self.identity = Identity(  # type: ignore[misc]  # each card has its own
            VENDOR, number, class_code, 0 if legacy else 1, VENDOR,
            device.kind if legacy else 0x1100, pin=1,
        )  # fmt: skip
        super().__init__()
        self.isr = 0
        if legacy:
            self._legacy = LegacyRegisters(self)
            self.add_bar(0, LEGACY_SIZE, BarType.IO, self._legacy.read, self._legacy.write)
        if vectors is None:
            vectors = len(device.queues) + 1
        if vectors:
            nothing = self.add_bar(1, PAGE, BarType.MEMORY, lambda at, size: 0, _ignore)
            self.add_msix(nothing, vectors)
        if modern:
            device.options |= 1 << Feature.VERSION_1
            self._common = CommonRegisters(self)
            type = BarType.MEMORY_64 | BarType.PREFETCH
            self.add_bar(4, 4 * PAGE, type, self._read, self._write)
            self._add_capabilities()
        device.transport = self

    def reset(self) -> None:
        super().reset()
        self.isr = 0
        self.device.reset()

    def state(self) -> State:
        selects = {}
        for name in ("_legacy", "_common"):
            if (registers := getattr(self, name, None)) is not None:
                selects[name] = save(registers, 1, registers.FIELDS)
        return super().state() | save(self, 1, ("isr",)) | {
            "device": self.device.state(), "selects": selects}

    def restore(self, state: State) -> None:
        super().restore(state)
        load(self, state, 1, ("isr",))
        self.device.restore(state["device"])
        for name, saved in state["selects"].items():
            registers = getattr(self, name, None)
            if registers is None:
                raise StateError(f"{type(self).__name__}: another transport")
            load(registers, saved, 1, registers.FIELDS)

    # --- interrupts ----------------------------------------------------------------------------

    def queue_interrupt(self, vector: int) -> None:
        """Buffers were used."""
        self._signal(QUEUE_ISR, vector)

    def config_interrupt(self) -> None:
        """Configuration or status changed."""
        self._signal(QUEUE_ISR | CONFIG_ISR, self.device.config_vector)

    def _signal(self, isr: int, vector: int) -> None:
        if self.msix is not None and self.msix.enabled:
            if vector < self.msix.vectors:
                self.msix.notify(vector)
        else:
            self.isr |= isr
            self.set_intx(True)

    def take_isr(self) -> int:
        """The ISR status; reading it lowers the pin."""
        value, self.isr = self.isr, 0
        self.set_intx(False)
        return value

    def valid_vector(self, vector: int) -> int:
        """The vector, or what says that there is none such."""
        known = self.msix is not None and vector < self.msix.vectors
        return vector if known else 0xFFFF

    def notify_queue(self, index: int) -> None:
        """The driver offered buffers."""
        if index < len(self.device.queues) and self.device.running:
            self.device.notified(self.device.queues[index])

    # --- the modern windows --------------------------------------------------------------------

    def _add_capabilities(self) -> None:
        self._add_capability(COMMON_CFG, COMMON, COMMON_SIZE)
        self._add_capability(ISR_CFG, ISR, 1)
        self._add_capability(DEVICE_CFG, DEVICE, PAGE)
        notify = struct.pack("<L", MULTIPLIER)
        self._add_capability(NOTIFY_CFG, NOTIFY, PAGE, notify)
        self._window = self._add_capability(PCI_CFG, 0, 0, bytes(4))
        at = self._window
        self.config.define(at + 4, 1, writable=0xFF)
        self.config.define(at + 8, 12, writable=(1 << 96) - 1)

    def _add_capability(self, kind: int, offset: int, length: int, more: bytes = b"") -> int:
        at = self.config.add_capability(CAP_VENDOR, 16 + len(more))
        bar = 0 if kind == PCI_CFG else 4
        raw = struct.pack("<BBB3xLL", 16 + len(more), kind, bar, offset, length) + more
        self.config.define(at + 2, len(raw), int.from_bytes(raw, "little"))
        return at

    def _read(self, offset: int, size: int) -> int:
        page = offset & ~(PAGE - 1)
        if page == COMMON:
            return self._common.read(offset, size)
        if page == ISR:
            return self.take_isr() if offset == ISR else 0
        if page == DEVICE:
            return self.read_device(offset - DEVICE, size)
        return 0

    def _write(self, offset: int, size: int, value: int) -> None:
        page = offset & ~(PAGE - 1)
        if page == COMMON:
            self._common.write(offset, size, value)
        elif page == DEVICE:
            self.write_device(offset - DEVICE, size, value)
        elif page == NOTIFY:
            self.notify_queue((offset - NOTIFY) // MULTIPLIER)

    def read_device(self, offset: int, size: int) -> int:
        """The device's configuration; zeroes behind its end."""
        return int.from_bytes(self.device.config()[offset : offset + size], "little")

    def write_device(self, offset: int, size: int, value: int) -> None:
        """Store to the device's configuration."""
        if offset + size <= len(self.device.config()):
            self.device.write_config(offset, value.to_bytes(size, "little"))

    # --- the window in configuration space (4.1.4.9) -------------------------------------------

    def read_config(self, reg: int, size: int) -> int:
        if self._in_window(reg, size):
            bar, offset, length = self._window_target()
            if length in (1, 2, 4):
                value = self._read_bar(bar, offset, length)
                self.config.put(self._window + 16, 4, value)
        return super().read_config(reg, size)

    def config_written(self, reg: int, size: int) -> None:
        if self._in_window(reg, size):
            bar, offset, length = self._window_target()
            if length in (1, 2, 4):
                value = self.config.get(self._window + 16, 4) & (1 << length * 8) - 1
                if bar == 4 and offset + length <= 4 * PAGE:
                    self._write(offset, length, value)

    _window = 0

    def _in_window(self, reg: int, size: int) -> bool:
        data = self._window + 16
        return bool(self._window) and reg < data + 4 and data < reg + size

    def _window_target(self) -> tuple[int, int, int]:
        at = self._window
        return (self.config.get(at + 4, 1), self.config.get(at + 8, 4),
                self.config.get(at + 12, 4))  # fmt: skip

    def _read_bar(self, bar: int, offset: int, length: int) -> int:
        return self._read(offset, length) if bar == 4 and offset + length <= 4 * PAGE else 0


def _ignore(offset: int, size: int, value: int) -> None:
    """MSI-X's window holds nothing else."""
