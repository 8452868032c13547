"""What a piece of physical memory allows."""

from __future__ import annotations

from enum import IntFlag


class Perm(IntFlag):
    """Bits of `Range.perms`; the first three are those of the softmmu's `Access`."""

    READ = 1 << 0
    WRITE = 1 << 1
    EXECUTE = 1 << 2
    DEVICE = 1 << 3  # no RAM: callbacks read and write it

    @classmethod
    def parse(cls, text: str) -> Perm:
        """Of a string such as "rwx", "r-x", "rw" or "---"; ValueError."""
        found = cls(0)
        for letter in text:
            bit = {"r": cls.READ, "w": cls.WRITE, "x": cls.EXECUTE, "-": cls(0)}.get(letter)
            if bit is None:
                raise ValueError(f"no permission {letter!r} (in {text!r}): r, w and x are there")
            found |= bit
        return found

    def letters(self) -> str:
        """As "rwx", with "-" for what is not allowed."""
        bits = zip((Perm.READ, Perm.WRITE, Perm.EXECUTE), "rwx", strict=True)
        return "".join(letter if self & bit else "-" for bit, letter in bits)


RWX = Perm.READ | Perm.WRITE | Perm.EXECUTE
