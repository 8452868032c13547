"""TLS credentials: QEMU's objects for them."""
