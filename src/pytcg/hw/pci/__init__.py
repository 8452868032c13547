"""PCI: configuration space, base addresses, interrupts, the bus (PCI Local Bus 3.0)."""
