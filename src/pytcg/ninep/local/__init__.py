"""A folder of the host's as a server's files."""
