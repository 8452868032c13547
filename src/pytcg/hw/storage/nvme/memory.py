"""Guest memory as commands reach it: lists of pieces, gathered and scattered by the bus master."""

from __future__ import annotations

from pytcg.hw.pci.device import DmaError, DmaMap, PciDevice
from pytcg.hw.storage.nvme import pointers
from pytcg.hw.storage.nvme.command import Command, Failed, Status
from pytcg.hw.storage.nvme.identify import PAGE
from pytcg.hw.storage.nvme.pointers import Spans


class GuestMemory:
    """`page` is the memory page size that CC.MPS chose. What can't be reached is Failed."""

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self.page = PAGE
        self.epoch = 0  # of resets: what was fetched before one goes nowhere after it

    def spans(self, command: Command, length: int) -> Spans:
        """Where the command's data lies."""
        return pointers.spans(command, length, self.page, self._fetch)

    def _fetch(self, address: int, length: int) -> bytes:
        try:
            return self._device.dma_read(address, length)
        except DmaError:
            raise Failed(Status.DATA_TRANSFER_ERROR) from None

    def map(self, spans: Spans) -> DmaMap | None:
        """The pieces in place; None where some are no plain RAM, or there are bit buckets."""
        pieces = [(address, length) for address, length in spans if address is not None]
        return self._device.dma_map(pieces) if len(pieces) == len(spans) else None

    def gather(self, spans: Spans) -> bytes:
        """The bytes of the pieces; a bit bucket has none to give."""
        if any(address is None for address, _ in spans):
            raise Failed(Status.SGL_TYPE_INVALID)
        return b"".join(self._fetch(address or 0, length) for address, length in spans)

    def scatter(self, spans: Spans, data: bytes) -> None:
        """Store to the pieces."""
        at = 0
        try:
            for address, length in spans:
                if address is not None:
                    self._device.dma_write(address, data[at : at + length])
                at += length
        except DmaError:
            raise Failed(Status.DATA_TRANSFER_ERROR) from None
