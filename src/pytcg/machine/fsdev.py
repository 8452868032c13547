"""Shared folders of the command line as devices find them: `-fsdev` and `-virtfs`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a machine without shared folders needs no server
    from pytcg.ninep.backend import Backend
    from pytcg.ninep.service import Service
    from pytcg.ninep.session import Admit


class FsdevError(Exception):
    """A shared folder that can't be had; the text says why."""


class Fsdev:
    """Files that machines show: each device serves a client of its own from them."""

    def __init__(self, name: str, backend: Backend, multidevs: str = "warn",
                 admit: Admit | None = None, *, waits: bool = False) -> None:  # fmt: skip
        """``waits``: requests do more than look into the host's caches."""
        self.name = name
        self.backend = backend
        self._multidevs = multidevs
        self._admit = admit
        self._waits = waits

    def serve(self, lock: AbstractContextManager[object], fail: Callable[[BaseException], None],
              stack: ExitStack, warn: Callable[[str], None]) -> Service:  # fmt: skip
        """A server, which ends with the stack."""
        from pytcg.ninep.dotl import DOTL
        from pytcg.ninep.dotu import DOTU
        from pytcg.ninep.qids import Qids
        from pytcg.ninep.service import Service
        from pytcg.ninep.session import Session

        session = Session(self.backend, Qids(self._multidevs, warn), (DOTL, DOTU),
                          self._admit)  # fmt: skip
        service = Service(session, lock, fail)
        service.waits = self._waits or self._admit is not None
        stack.callback(service.close)
        return service
