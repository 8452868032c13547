"""The order of an object's members in what is sent: QEMU's, where clients compare texts.

QEMU keeps them in a hash table of 512 chains, by trivial database's hash of the name, the last one
put in first in its chain, and prints chain by chain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

CHAINS: Final = 512
WORD: Final = (1 << 32) - 1


@lru_cache(4096)
def chain(name: str) -> int:
    """Where a member of this name is kept."""
    data = name.encode()
    value = 0x238F13AF * len(data)
    for index, byte in enumerate(data):
        value += byte << index * 5 % 24
    return (1103515243 * (value & WORD) + 12345 & WORD) % CHAINS


def ordered(value: Any) -> Any:
    """The same with all members of all objects in that order."""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(reversed(value), key=chain)}
    if isinstance(value, list | tuple):
        return [ordered(each) for each in value]
    return value
