"""NBD: the protocol, a client that is a disk, a server."""
