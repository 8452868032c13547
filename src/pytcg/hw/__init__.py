"""Chips, one a file: registers, an injected clock and output lines; no bus, thread or file."""
