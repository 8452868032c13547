"""The object cache's size: what was used longest ago goes first."""

from __future__ import annotations

import importlib.resources
import os
import time
from pathlib import Path

import pytest

from pytcg_llvm.cache import ObjectCache
from pytcg_threaded.engine import ThreadedEngine
from pytcg_threaded.jobs import CORE_SHARES, run_job
from pytcg_x86.decode.seeds import parse_seeds


def test_the_oldest_objects_go_when_there_is_too_much(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "objects", limit=100_000)
    long_ago = time.time() - 100_000
    for number in range(120):
        cache.store(f"k{number}", bytes(1000))
        os.utime(tmp_path / "objects" / f"k{number}.o", (long_ago, long_ago + number))
    assert cache.load("k0") is not None  # used again: it is the youngest now
    cache.prune()
    left = {path.stem for path in (tmp_path / "objects").iterdir()}
    assert 70 <= len(left) <= 80
    assert "k0" in left and "k119" in left and "k1" not in left
    assert cache.load("k119") == bytes(1000)


def test_a_store_now_and_then_looks_at_the_size(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "objects", limit=50_000)
    for number in range(400):
        cache.store(f"k{number}", bytes(1000))
    assert len(list((tmp_path / "objects").iterdir())) <= 120


def cache_with_core(folder: Path) -> ObjectCache:
    """A cache with the natives, but without handlers."""
    cache = ObjectCache(folder)
    shared = ThreadedEngine.shared()
    for name in map(shared._core_key, range(CORE_SHARES)):
        body = shared.cache.load(name)
        if body is not None:
            cache.store(name, body)
    return cache


def test_the_first_handlers_need_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_with_core(tmp_path / "objects")
    monkeypatch.setattr(ThreadedEngine, "_seeds", staticmethod(lambda: _SOME))
    monkeypatch.setattr(cache, "store", lambda key, body: None)  # as a full disk does
    assert ThreadedEngine(cache, lambda text: None).forms.keys() == set(_SOME)


def test_many_packs_are_one_after_a_start(tmp_path: Path) -> None:
    cache = cache_with_core(tmp_path / "objects")
    shared = ThreadedEngine.shared()
    prefix = f"{shared.identity[:16]}-"
    for number in range(10):
        cache.store(f"{prefix}{number:024}", run_job(["forms", f"{_SOME[number]:x}"]))
    before = ThreadedEngine(cache, lambda text: None).forms.keys()
    assert len(cache.names(prefix)) == 1
    assert ThreadedEngine(cache, lambda text: None).forms.keys() == before >= set(_SOME)


_SOME = sorted(parse_seeds(
    importlib.resources.files("pytcg_x86.decode").joinpath("seeds.txt").read_text()))[:10]
