"""What is known of every row of the instruction table: `python -m tests.isa` writes docs/ISA.md."""
