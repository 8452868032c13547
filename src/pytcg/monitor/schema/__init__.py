"""Types of the protocol, as QEMU's QAPI has them: declared once, checked and shown from that."""

from pytcg.monitor.schema import block, input, jobs, machine, probing, snapshots, vnc

__all__ = ["block", "input", "jobs", "machine", "probing", "snapshots", "vnc"]
