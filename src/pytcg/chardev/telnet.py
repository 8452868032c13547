"""The telnet protocol's escapes (RFC 854), as far as a character-at-a-time terminal needs them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Command(IntEnum):
    """Commands that follow IAC."""

    EOR = 239
    SE = 240
    BREAK = 243
    IP = 244
    SB = 250
    WILL = 251
    WONT = 252
    DO = 253
    DONT = 254
    IAC = 255


IAC: Final = bytes([Command.IAC])
_BINARY, _ECHO, _SUPPRESS_GO_AHEAD = 0, 1, 3
GREETING: Final = bytes([
    Command.IAC, Command.WILL, _ECHO, Command.IAC, Command.WILL, _SUPPRESS_GO_AHEAD,
    Command.IAC, Command.WILL, _BINARY, Command.IAC, Command.DO, _BINARY,
])  # fmt: skip


class TelnetFilter:
    """Takes the commands out of what a client sends; they may be cut anywhere."""

    def __init__(self) -> None:
        self._command = bytearray()
        self.breaks = 0  # BREAK commands not yet taken

    def strip(self, data: bytes) -> bytes:
        """The bytes that are meant for the guest."""
        result = bytearray()
        for byte in data:
            if self._command:
                self._command.append(byte)
                self._look(result)
            elif byte == Command.IAC:
                self._command.append(byte)
            else:
                result.append(byte)
        return bytes(result)

    def _look(self, result: bytearray) -> None:
        """Act on the command if it is complete."""
        kind, last = self._command[1], self._command[-1]
        if kind == Command.IAC:
            result.append(Command.IAC)
        elif kind == Command.BREAK:
            self.breaks += 1
        elif kind == Command.SB:
            if len(self._command) < 4 or (self._command[-2], last) != (Command.IAC, Command.SE):
                del self._command[2:-2]  # only the end of a subnegotiation counts
                return
        elif kind >= Command.WILL and len(self._command) < 3:
            return
        self._command.clear()


def escape(data: bytes) -> bytes:
    """Output with each 255 doubled."""
    return data.replace(IAC, IAC + IAC)
