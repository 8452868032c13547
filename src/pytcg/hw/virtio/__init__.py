"""virtio: rings, the PCI transport, and devices (Virtual I/O Device 1.2)."""
