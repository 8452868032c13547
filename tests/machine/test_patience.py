"""Who waits for a slow host: the processor once, then others for a while."""

from __future__ import annotations

import pytest

from pytcg import patience
from pytcg.patience import LEAST, SLOW, Patience


def test_work_is_left_to_others_for_longer_each_time_it_was_slow(monkeypatch: pytest.MonkeyPatch
                                                                 ) -> None:  # fmt: skip
    now = [1]
    monkeypatch.setattr(patience, "monotonic_ns", lambda: now[0])
    made = Patience()
    for pause in (LEAST, 2 * LEAST, 4 * LEAST):
        began = made.begin()
        assert began == now[0]
        now[0] += SLOW + 1
        made.end(began)
        assert not made.begin()
        now[0] += pause - 1
        assert not made.begin()
        now[0] += 1
    began = made.begin()
    made.end(began)  # quick again
    now[0] += SLOW + 1
    made.end(began)
    now[0] += LEAST
    assert made.begin()
