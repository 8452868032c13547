"""JSON out of a stream, in pieces of any size, and what is none."""

from __future__ import annotations

import json
import random

from pytcg.monitor.jsonstream import MOST_NESTING, JsonError, JsonStream

VALUES = [{"execute": "a", "id": "}{\\\""}, {}, {"x": [1, {"y": "]"}]}, {"z": "\u00e9\n"}]


def test_values_come_out_however_the_bytes_are_cut() -> None:
    rng = random.Random(4)
    data = b"".join(json.dumps(v).encode() + rng.choice((b"", b"\r\n", b" ")) for v in VALUES * 5)
    for _ in range(50):
        stream, found, at = JsonStream(), [], 0
        while at < len(data):
            size = rng.randrange(1, 20)
            found += stream.feed(data[at : at + size])
            at += size
        assert found == VALUES * 5


def test_junk_is_an_error_and_the_next_value_is_read() -> None:
    stream = JsonStream()
    found = stream.feed(b'hello\n{"a": }{"b": 1}]{"c": 2}')
    assert [isinstance(value, JsonError) for value in found] == [True, True, False, True, False]


def test_nesting_has_an_end() -> None:
    found = JsonStream().feed(b"[" * (MOST_NESTING + 10))
    assert isinstance(found[0], JsonError)


def test_random_bytes_are_never_more_than_errors() -> None:
    rng = random.Random(8)
    for _ in range(300):
        data = bytes(rng.choice(b'{}[]":,\\ \n\xff01ae') for _ in range(rng.randrange(80)))
        JsonStream().feed(data)


def test_single_quotes_are_quotes() -> None:
    found = JsonStream().feed(b"""{'a': 'it\\'s "b" }', "c": 'd\\n\\\\', 'e': "f'g"}{"x": "'"}""")
    assert found == [{"a": "it's \"b\" }", "c": "d\n\\", "e": "f'g"}, {"x": "'"}]
