"""The object cache: areas, and what was used longest ago goes first."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytcg_llvm.cache import AREAS, ObjectCache
from pytcg_threaded.engine import CORE, HANDLERS, ThreadedEngine
from pytcg_threaded.jobs import run_job
from pytcg_x86.decode.seeds import parse_seeds


def objects_of(folder: Path) -> set[str]:
    """The names of all objects below."""
    return {path.stem for path in folder.rglob("*.o")}


def test_the_oldest_objects_go_when_there_is_too_much(tmp_path: Path) -> None:
    cache = ObjectCache("area", tmp_path, limit=100_000)
    long_ago = time.time() - 100_000
    for number in range(120):
        cache.store(f"kind/k{number}", bytes(1000))
        os.utime(tmp_path / "area" / "kind" / f"k{number}.o", (long_ago, long_ago + number))
    assert cache.load("kind/k0") is not None  # used again: it is the youngest now
    cache.prune()
    left = objects_of(tmp_path)
    assert 70 <= len(left) <= 80
    assert "k0" in left and "k119" in left and "k1" not in left
    assert cache.load("kind/k119") == bytes(1000)


def test_a_store_now_and_then_looks_at_the_size(tmp_path: Path) -> None:
    cache = ObjectCache("area", tmp_path, limit=50_000)
    for number in range(400):
        cache.store(f"kind/k{number}", bytes(1000))
    assert len(objects_of(tmp_path)) <= 120


def area(folder: Path, name: str, used: float, size: int = 1000) -> ObjectCache:
    """An area with an object, used so many seconds ago."""
    cache = ObjectCache(name, folder, limit=100_000)
    cache.store("kind/object", bytes(size))
    for path in (cache.folder, f"{cache.folder}/kind/object.o"):
        os.utime(path, (time.time() - used,) * 2)
    return cache


def test_other_areas_go_whole_before_objects_of_ones_own(tmp_path: Path) -> None:
    for number, used in enumerate((3000, 2000, 1000)):
        area(tmp_path, f"old{number}", used, 40_000)
    own = ObjectCache("own", tmp_path, limit=100_000)
    own.store("kind/first", bytes(40_000))
    own.prune()
    assert {path.name for path in tmp_path.iterdir()} == {"old2", "own"}
    assert own.load("kind/first") is not None


def test_a_new_area_leaves_those_used_last(tmp_path: Path) -> None:
    for number in range(AREAS + 3):
        area(tmp_path, f"a{number}", 1000 * (20 - number))
    (tmp_path / "1234.o").write_bytes(b"as it was kept once")
    (tmp_path / ".removed-x" / "kind").mkdir(parents=True)
    os.utime(tmp_path / "1234.o", (0, 0))
    ObjectCache("new", tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"new", *(f"a{number}" for number in range(3, AREAS + 3))}


def test_an_area_that_is_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    cache = area(tmp_path, "area", 0)
    shutil.rmtree(tmp_path / "area")
    assert cache.load("kind/object") is None
    cache.store("kind/object", b"again")
    assert cache.load("kind/object") == b"again"


def test_an_object_that_is_cut_or_changed_anywhere_is_none(tmp_path: Path) -> None:
    cache = ObjectCache("area", tmp_path)
    cache.store("kind/object", bytes(range(200)))
    path = tmp_path / "area" / "kind" / "object.o"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert cache.load("kind/object") is None
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.load("kind/object") is None
    path.write_bytes(whole + b"\0")
    assert cache.load("kind/object") is None
    path.write_bytes(whole)
    assert cache.load("kind/object") == bytes(range(200))
    path.rename(path.with_name("other.o"))
    assert cache.load("kind/other") is None


def test_processes_share_areas(tmp_path: Path) -> None:
    """Each makes areas, which removes others' while those store and load."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pytcg_llvm.cache import ObjectCache\n"
        "for number in range(40):\n"
        "    cache = ObjectCache(f'{sys.argv[2]}{number % 20}', Path(sys.argv[1]), limit=30_000)\n"
        "    for name in range(8):\n"
        "        cache.store(f'kind/{name}', bytes([name]) * 1000)\n"
        "        assert cache.load(f'kind/{name}') in (None, bytes([name]) * 1000)\n"
        "    cache.prune()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), letter],
                                env=environment) for letter in "abb"]  # fmt: skip
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.o")) < 3 * 40_000


def cache_with_core(root: Path) -> ObjectCache:
    """A cache with the natives, but without handlers."""
    cache = ObjectCache("area", root)
    body = ThreadedEngine.shared().cache.load(CORE)
    assert body is not None
    cache.store(CORE, body)
    return cache


def test_the_first_handlers_need_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_with_core(tmp_path / "objects")
    monkeypatch.setattr(ThreadedEngine, "_seeds", staticmethod(lambda: _SOME))
    monkeypatch.setattr(cache, "store", lambda key, body: None)  # as a full disk does
    assert ThreadedEngine(cache, lambda text: None).forms.keys() == set(_SOME)


def test_many_packs_are_one_after_a_start(tmp_path: Path) -> None:
    cache = cache_with_core(tmp_path / "objects")
    for number in range(10):
        cache.store(f"{HANDLERS}/{number:024}", run_job(["forms", f"{_SOME[number]:x}"]))
    before = ThreadedEngine(cache, lambda text: None).forms.keys()
    assert len(cache.names(HANDLERS)) == 1
    assert ThreadedEngine(cache, lambda text: None).forms.keys() == before >= set(_SOME)


_SOME = sorted(parse_seeds(
    importlib.resources.files("pytcg_x86.decode").joinpath("seeds.txt").read_text()))[:10]
