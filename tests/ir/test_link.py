"""Images: joined, kept on disk and put into memory they do what their objects say."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image, Linker, LinkError, NoRoom
from pytcg_threaded.packs import HandlerPack, join_handlers

_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)


def adder(name: str, number: int, callee: str | None = None) -> bytes:
    """An object with ``name(x)``: x + number, plus ``callee(x)`` and a table's first byte."""
    function = Function(name, [("x", Type.I64)], Type.I64)
    b = Builder(function)
    value = function.params[0] + number
    if callee is not None:
        value = value + b.op("call", function.params[0], callee=callee, type=Type.I64)
        value = value + b.ld(Type.I8, b.symbol(f"{name}_table")).zext(Type.I64)
    b.ret(value)
    tables = [(f"{name}_table", bytes([7]))] if callee is not None else []
    return compile_module(emit_module([function], tables))


def call(address: int, x: int) -> int:
    return int(_FUNCTION(address)(x))


def test_names_are_found_in_the_image_in_others_and_in_the_c_library() -> None:
    linker = Linker()
    linker.add(Image.of(adder("one", 1)))
    found = linker.add(Image.of(adder("three", 3, "two"), adder("two", 2, "one"),
                                adder("four", 4, "gnu_dev_minor")))  # fmt: skip
    assert call(found["two"], 10) == 12 + 11 + 7
    assert call(found["three"], 10) == 13 + 7 + call(found["two"], 10)
    assert call(found["four"], 10) == 14 + 7 + 10


def test_what_is_kept_on_disk_is_the_same() -> None:
    linker = Linker()
    image = Image.join([Image.of(adder("a", 1, "b")), Image.of(adder("b", 2, "c")),
                        Image.of(adder("c", 3))])  # fmt: skip
    again = Image.from_bytes(image.to_bytes())
    assert again == image
    assert call(linker.add(again)["a"], 100) == (101 + 7) + (102 + 7) + 103


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(LinkError, match="nothing is called 'no_such_function'"):
        Linker().add(Image.of(adder("a", 1, "no_such_function")))


def test_joined_packs_have_each_form_once() -> None:
    packs = [HandlerPack({key: 10 * key}, Image.of(adder(f"form_{key:x}", key))) for key in (1, 2)]
    packs.append(HandlerPack({2: 99}, packs[1].image))
    joined = HandlerPack.from_bytes(join_handlers(pack.to_bytes() for pack in packs))
    assert joined.effects == {1: 10, 2: 20}
    linker = Linker()
    found = linker.add(joined.image)
    assert [call(found[HandlerPack.symbol(key)], 5) for key in (1, 2)] == [6, 7]


def test_what_does_not_fit_is_refused_and_the_rest_stays() -> None:
    linker = Linker(1 << 16)
    found = linker.add(Image.of(adder("one", 1)))
    with pytest.raises(LinkError, match="no room for more code"):
        linker.add(Image(bytes(1 << 16), {"large": 0}, ("",), ()))
    assert call(linker.add(Image.of(adder("two", 2, "one")))["two"], 10) == 12 + 11 + 7
    assert call(found["one"], 10) == 11


def test_a_part_is_emptied_and_filled_again_and_names_stay_its_own() -> None:
    linker = Linker(1 << 16)
    linker.add(Image.of(adder("one", 1)))
    part = linker.part(8192)
    for round_ in range(3):
        sizes = []
        with pytest.raises(NoRoom):
            for number in range(1000):
                found = part.add(Image.of(adder(f"n{number}", number + round_, "one")))
                assert call(found[f"n{number}"], 5) == 5 + number + round_ + 6 + 7
                sizes.append(part.used)
        assert 8192 - 512 < sizes[-1] <= 8192
        part.clear()
        assert part.used == 0
    assert not any(name.startswith("n") for name in linker.symbols)
    assert call(linker.symbols["one"], 10) == 11
    with pytest.raises(NoRoom):
        linker.part(1 << 16)


def test_perf_is_told_what_there_is_and_what_comes(tmp_path: Path) -> None:
    linker = Linker(1 << 16)
    before = linker.add(Image.of(adder("before", 1)))
    part = linker.part(8192)
    path = tmp_path / "perf.map"
    linker.write_perf_map(path, {"others": (0x1000, 0x20)})
    after = {**linker.add(Image.of(adder("after", 2))), **part.add(Image.of(adder("hot", 3)))}
    lines = [line.split() for line in path.read_text().splitlines()]
    rows = {name: (int(at, 16), int(size, 16)) for at, size, name in lines}
    assert rows.pop("others") == (0x1000, 0x20)
    assert {name: at for name, (at, _) in rows.items()} == {**before, **after}
    assert all(0 < size <= 128 for _, size in rows.values())
