"""The x87: soft-float of 80 bits, its stack, its instructions."""
