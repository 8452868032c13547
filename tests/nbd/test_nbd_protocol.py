"""The wire format, and the parsers under arbitrary bytes."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytcg.block.protocols.nbd.protocol import (
    MAX_STRING,
    Cursor,
    Info,
    NbdError,
    Request,
    host_error,
    pack_info_request,
    pack_meta_request,
    pack_string,
    parse_info_request,
    parse_meta_request,
    wire_error,
)

names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1),
       st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_request_round_trip(flags: int, command: int, cookie: int, offset: int, length: int
                            ) -> None:
    request = Request(flags, command, cookie, offset, length)
    assert len(request.pack()) == 28
    assert Request.unpack(request.pack()) == request


def test_request_with_a_wrong_magic_is_refused() -> None:
    with pytest.raises(NbdError, match="invalid magic"):
        Request.unpack(bytes(28))


@given(names, st.sets(st.sampled_from(list(Info))))
def test_info_request_round_trip(name: str, items: set[Info]) -> None:
    assert parse_info_request(pack_info_request(name, items)) == (name, set(items))


@given(names, st.lists(names, max_size=5))
def test_meta_request_round_trip(name: str, queries: list[str]) -> None:
    assert parse_meta_request(pack_meta_request(name, queries)) == (name, queries)


@given(st.binary(max_size=200))
def test_parsers_refuse_or_understand_any_bytes(data: bytes) -> None:
    for parse in (parse_info_request, parse_meta_request):
        try:
            name, _ = parse(data)
        except NbdError:
            continue
        assert "\0" not in name


@given(st.data(), names, st.lists(names, max_size=3))
def test_parsers_survive_a_flipped_byte(data: st.DataObject, name: str, queries: list[str]
                                        ) -> None:
    body = bytearray(pack_meta_request(name, queries))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parse_meta_request(bytes(body))
    except NbdError as error:
        assert str(error)


def test_a_long_string_is_refused_before_it_is_read() -> None:
    with pytest.raises(NbdError, match="longer than"):
        Cursor((MAX_STRING + 1).to_bytes(4, "big") + b"x").string()
    assert Cursor(pack_string("x" * MAX_STRING)).string() == "x" * MAX_STRING


def test_query_count_beyond_the_data_is_refused_at_once() -> None:
    with pytest.raises(NbdError, match="don't fit"):
        parse_meta_request(pack_string("") + b"\xff\xff\xff\xff")


def test_errors_cross_the_wire_as_linux_numbers_them() -> None:
    assert wire_error(errno.EROFS) == 1
    assert wire_error(errno.ENOSPC) == wire_error(errno.EFBIG) == 28
    assert wire_error(errno.EBADF) == 22
    assert wire_error(None) == 5
    for number in (errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOTSUP):
        assert host_error(wire_error(number)) == number
    assert host_error(12345) == errno.EINVAL
