"""Devices of no class of their own."""
