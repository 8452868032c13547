"""AHCI: a SATA controller with ports (AHCI 1.3.1), one concern a file."""
