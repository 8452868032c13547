"""`vc`: a text console, which `-display curses` shows and types on."""

from __future__ import annotations

from typing import Final

from pytcg.chardev.base import Chardev, Context, Frontend
from pytcg.chardev.text_console import TextConsole

_WAITING: Final = 4096  # keys that the front-end has no room for


class VcChardev(Chardev):
    """`console` has what was written; `type` is its keyboard."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.console = TextConsole()
        self._keys = b""
        self._context: Context | None = None

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._context = context
        super().start(context, frontend)

    def description(self) -> str:
        return "vc"

    def send(self, data: bytes) -> None:
        self.console.feed(data)

    def type(self, data: bytes) -> None:
        """Keys that were pressed; main loop, lock held."""
        self._keys = (self._keys + data)[:_WAITING]
        self._hand_over()

    def _hand_over(self) -> None:
        while self._keys and self.frontend is not None and (room := self.frontend.can_receive()):
            part, self._keys = self._keys[:room], self._keys[room:]
            self.frontend.receive(part)

    def accept_input(self) -> None:
        if self._keys and self._context is not None and not self._context.loop.is_closed():
            self._context.loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        assert self._context is not None
        with self._context.lock:
            self._hand_over()
