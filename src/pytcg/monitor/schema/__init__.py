"""Types of the protocol, as QEMU's QAPI has them: declared once, checked and shown from that."""

from pytcg.monitor.schema import machine, vnc

__all__ = ["machine", "vnc"]
