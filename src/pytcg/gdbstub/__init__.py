"""GDB's remote serial protocol, for machines and for the library's processors."""
