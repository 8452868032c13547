"""Storage: flash memory, disk controllers."""
