"""What of a board's interrupt controllers KVM has: all of them and the PIT, or the local APIC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.accel.kvm.abi import Cap, counted, struct
from pytcg.accel.kvm.errors import KvmError
from pytcg.accel.kvm.irqchip.ioapic import CHIP as IOAPIC
from pytcg.accel.kvm.irqchip.ioapic import KernelIoApic
from pytcg.accel.kvm.irqchip.pic import KernelPic
from pytcg.accel.kvm.irqchip.pit import KernelPit
from pytcg.hw.core.apic_bus import DeliveryMode, Destination, Trigger
from pytcg.hw.core.ioapic import PINS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytcg.accel.kvm.device import Kvm, KvmFile
    from pytcg.accel.kvm.irqchip.lapic import KernelLapic
    from pytcg.hw.clock import Clock

_OF_CHIP, _OF_MESSAGE = 1, 2  # KVM_IRQ_ROUTING_IRQCHIP and _MSI
_TIMER, _TIMER_PIN = 0, 2  # ISA interrupt 0 reaches the I/O APIC's pin 2, as ACPI says
_MESSAGES: Final = 0xFEE0_0000
_LOGICAL, _LEVEL = 1 << 2, 1 << 15
_DEASSIGN: Final = 1  # KVM_IRQFD_FLAG_DEASSIGN

Message = tuple[int, int]
"""Address and data of an interrupt message."""


class KernelChips:
    """The chips of one virtual machine; made before its processor. KvmError.

    ``split``: only the local APIC is the kernel's. Numbers of interrupts (GSIs) below `PINS` are
    the I/O APIC's pins, but that 0 is what an ISA bus calls so; above are messages' routes.
    """

    def __init__(self, kvm: Kvm, vm: KvmFile, *, split: bool) -> None:
        self.split = split
        self.make_lapic: Callable[[Clock], KernelLapic]
        """The processor's local APIC: whoever has the processor says how."""
        self.on_level_end: Callable[[int], None] = lambda vector: None
        """Called with the vector of a level-triggered interrupt that has ended (split)."""
        self._vm = vm
        self._pins: Sequence[Any] = []
        self._messages: dict[int, Message] = {}
        if split:
            _enable_split(vm)
        else:
            try:
                vm.ioctl("CREATE_IRQCHIP")
            except KvmError as error:
                raise KvmError(f"Create kernel irqchip failed: {error}") from None
            if not (kvm.has(Cap.PIT2) and kvm.has(Cap.PIT_STATE2)):
                raise KvmError("Create kernel PIC irqchip failed: KVM has no PIT")
            vm.ioctl("CREATE_PIT2", struct("pit_config"))
            self._pins = _usual_routes()
            self._tell_routes()

    def make_pic(self) -> KernelPic:
        """The 8259s."""
        return KernelPic(self._vm)

    def make_ioapic(self) -> KernelIoApic:
        """The I/O APIC."""
        return KernelIoApic(self._vm)

    def make_pit(self, clock: Clock) -> KernelPit:
        """The 8254."""
        return KernelPit(self._vm, clock)

    # Interrupts --------------------------------------------------------------------------------

    def set_line(self, gsi: int, level: bool) -> None:
        """Drive an ISA interrupt, or a pin of the I/O APIC beyond them. From any thread."""
        line = struct("irq_level")
        line.irq, line.level = gsi, int(level)
        self._vm.ioctl("IRQ_LINE", line)

    def set_pin(self, pin: int, level: bool) -> None:
        """Drive a pin of the I/O APIC."""
        self.set_line(_TIMER if pin == _TIMER_PIN else pin, level)

    def send(self, address: int, data: int) -> None:
        """KVM_SIGNAL_MSI; what is no interrupt's address reaches nobody."""
        message = struct("msi")
        message.address_lo, message.address_hi = address & 0xFFFF_FFFF, address >> 32
        message.data = data
        self._vm.ioctl("SIGNAL_MSI", message)

    def deliver(self, dest: Destination, mode: DeliveryMode, vector: int, trigger: Trigger
                ) -> None:  # fmt: skip
        """A message of an I/O APIC that is the board's own."""
        self.send(*_message(dest, mode, vector, trigger))

    # Routes ------------------------------------------------------------------------------------

    def route_entries(self, entries: Sequence[int]) -> None:
        """The board's own I/O APIC's entries: the ends of those levels come as exits (split)."""
        rows = [_message_route(pin, _entry_message(entry)) for pin, entry in enumerate(entries)]
        if [bytes(row) for row in rows] != [bytes(row) for row in self._pins]:
            self._pins = rows
            self._tell_routes()

    def route_message(self, gsi: int | None, message: Message) -> int:
        """Have a number of interrupts stand for a message: a new one, or ``gsi`` again."""
        if gsi is None:
            gsi = next(n for n in range(PINS, 4096) if n not in self._messages)
        if self._messages.get(gsi) != message:
            self._messages[gsi] = message
            self._tell_routes()
        return gsi

    def forget_message(self, gsi: int) -> None:
        """Nothing uses it any more."""
        del self._messages[gsi]
        self._tell_routes()

    def attach(self, fd: int, gsi: int, *, attached: bool = True) -> None:
        """KVM_IRQFD: what is written to an eventfd raises an interrupt, or no longer does."""
        row = struct("irqfd")
        row.fd, row.gsi, row.flags = fd, gsi, 0 if attached else _DEASSIGN
        self._vm.ioctl("IRQFD", row)

    def _tell_routes(self) -> None:
        rows = [*self._pins, *(_message_route(gsi, each) for gsi, each in self._messages.items())]
        table = counted("route", len(rows))
        for place, row in enumerate(rows):
            table.rows[place] = row
        self._vm.ioctl("SET_GSI_ROUTING", table)


def _enable_split(vm: KvmFile) -> None:
    wanted = struct("enable_cap")
    wanted.cap, wanted.args[0] = Cap.SPLIT_IRQCHIP, PINS
    try:
        vm.ioctl("ENABLE_CAP", wanted)
    except KvmError as error:
        raise KvmError(f"Could not enable split irqchip mode: {error}") from None


def _usual_routes() -> list[Any]:
    """ISA interrupts to the 8259s (chips 0 and 1), and all to the I/O APIC."""
    rows = [_chip_route(irq, irq >> 3, irq & 7) for irq in range(16)]
    rows += [_chip_route(pin, IOAPIC, _TIMER_PIN if pin == _TIMER else pin)
             for pin in range(PINS) if pin != _TIMER_PIN]  # fmt: skip
    return rows


def _chip_route(gsi: int, chip: int, pin: int) -> Any:
    row = struct("route")
    row.gsi, row.type = gsi, _OF_CHIP
    row.words[:2] = [chip, pin]
    return row


def _message_route(gsi: int, message: Message) -> Any:
    row = struct("route")
    row.gsi, row.type = gsi, _OF_MESSAGE
    row.words[:3] = [message[0] & 0xFFFF_FFFF, message[0] >> 32, message[1]]
    return row


def _message(dest: Destination, mode: DeliveryMode, vector: int, trigger: Trigger) -> Message:
    address = _MESSAGES | (dest.id & 0xFF) << 12 | (_LOGICAL if dest.logical else 0)
    return address, vector | mode << 8 | (_LEVEL if trigger is Trigger.LEVEL else 0)


def _entry_message(entry: int) -> Message:
    """What a redirection entry sends; masked or not."""
    dest = Destination(entry >> 56, logical=bool(entry >> 11 & 1))
    trigger = Trigger.LEVEL if entry >> 15 & 1 else Trigger.EDGE
    return _message(dest, DeliveryMode(entry >> 8 & 7), entry & 0xFF, trigger)
