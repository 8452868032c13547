"""ACPI tables of the board: one description, for firmware's table loader and for direct boots."""
