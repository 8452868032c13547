"""File servers that speak 9P2000.L and 9P2000.u; they know nothing of who carries the messages."""
