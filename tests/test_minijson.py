"""MiniJSON: every form that the protocol has, and what bytes from a hostile sender can do."""

from __future__ import annotations

import enum
import math
import struct
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.minijson import DecodingError, EncodingError, MiniJSONError, dumps, loads

# No floats nor bools: 1 == 1.0 == True, so that a dict keeps only one of them.
KEYS = st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=300) | st.binary(max_size=9)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**2039), 2**2039 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text(max_size=9), inner, max_size=20)
        | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=30,
)


def same(left: object, right: object) -> bool:
    """Equality that tells 1 from True and 1.0, and takes NaN for NaN."""
    return repr(left) == repr(right)


@given(OBJECTS)
def test_what_is_encoded_is_decoded_as_it_was(obj: object) -> None:
    assert same(loads(dumps(obj)), obj)


@given(OBJECTS)
def test_the_encoding_of_a_decoded_object_is_the_same_bytes(obj: object) -> None:
    data = dumps(obj)
    assert dumps(loads(data)) == data


@pytest.mark.parametrize(
    ("obj", "data"),
    [
        (-1, "03ff"),
        (-259, "02fefd"),
        (-0xFFFF, "01ffff0001"),
        ([{"a": 1.5}], "4151 0161 093fc00000"),
        (None, "08"),
        (True, "16"),
        (False, "17"),
        (0, "0300"),
        (127, "037f"),
        (128, "0680"),
        (255, "06ff"),
        (256, "020100"),
        (-128, "0380"),
        (-129, "02ff7f"),
        (0x7FFF, "027fff"),
        (0x8000, "058000"),
        (0xFFFF, "05ffff"),
        (0x1_0000, "0c010000"),
        (0xFF_FFFF, "0cffffff"),
        (-0x8001, "01ffff7fff"),
        (0x100_0000, "0101000000"),
        (0x7FFF_FFFF, "017fffffff"),
        (0x8000_0000, "0480000000"),
        (0xFFFF_FFFF, "04ffffffff"),
        (-0x8000_0000, "0180000000"),
        (-0x8000_0001, "1805ff7fffffff"),
        (0x1_0000_0000, "18050100000000"),
        (1_700_000_000_000, "1806018bcfe56800"),
        (2**39 - 1, "18057fffffffff"),
        (2**39, "1806008000000000"),
        (2**47 - 1, "18067fffffffffff"),
        (2**47, "180700800000000000"),
        (2**55 - 1, "18077fffffffffffff"),
        (2**55, "18080080000000000000"),
        (-(2**55), "180780000000000000"),
        (2**63 - 1, "18087fffffffffffffff"),
        (-(2**63), "18088000000000000000"),
        (2**63, "1809008000000000000000"),
        (-(2**63) - 1, "1809ff7fffffffffffffff"),
        (0.1, "0a3fb999999999999a"),
        (-0.0, "0980000000"),
        (math.inf, "097f800000"),
        (math.nan, "097fc00000"),
        ("", "80"),
        ("ż", "82c5bc"),
        ("x" * 127, "ff" + "78" * 127),
        ("x" * 128, "0080" + "78" * 128),
        ("x" * 256, "0d0100" + "78" * 256),
        ("x" * 65536, "0e00010000" + "78" * 65536),
        (b"", "1900"),
        (b"x" * 255, "19ff" + "78" * 255),
        (b"x" * 256, "1a0100" + "78" * 256),
        (b"x" * 65536, "1b00010000" + "78" * 65536),
        ([], "40"),
        ([None] * 15, "4f" + "08" * 15),
        ([None] * 16, "0710" + "08" * 16),
        ([None] * 256, "0f0100" + "08" * 256),
        ([None] * 65536, "1000010000" + "08" * 65536),
        ({}, "50"),
        ({"": None}, "510008"),
        ({1: None, "a": 2}, "62 0301 08 8161 0302"),
        ({"k" * 256: None}, "61 0d0100" + "6b" * 256 + "08"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_shortest_form_is_written_and_read_back(obj: object, data: str) -> None:
    assert dumps(obj) == bytes.fromhex(data)
    assert same(loads(bytes.fromhex(data)), obj)


@pytest.mark.parametrize(
    ("count", "string_keyed", "value_keyed"),
    [
        (15, "5f", "6f"),
        (16, "0b10", "1410"),
        (256, "110100", "1300000100"),  # 21 is not written: an old decoder misreads it
        (65536, "1200010000", "1300010000"),
    ],
)
def test_the_header_of_an_object_is_as_short_as_its_count_allows(
    count: int, string_keyed: str, value_keyed: str
) -> None:
    texts = {f"{key:06}": None for key in range(count)}
    assert dumps(texts).startswith(bytes.fromhex(string_keyed + "06" + b"000000".hex()))
    assert loads(dumps(texts)) == texts
    numbers = dict.fromkeys(range(count))
    assert dumps(numbers).startswith(bytes.fromhex(value_keyed + "0300"))
    assert loads(dumps(numbers)) == numbers


@pytest.mark.parametrize(
    ("data", "obj"),
    [
        ("00 01 78", "x"),
        ("0d 0001 78", "x"),
        ("0e 00000001 78", "x"),
        ("01 fffffffe", -2),
        ("02 fffe", -2),
        ("03 fe", -2),
        ("04 fffffffe", 0xFFFF_FFFE),
        ("05 fffe", 0xFFFE),
        ("06 fe", 0xFE),
        ("0c fffffe", 0xFF_FFFE),
        ("18 00", 0),
        ("18 01 fe", -2),
        ("18 02 fffe", -2),
        ("18 02 00fe", 0xFE),
        ("18 0b 0000000000000000000001", 1),
        ("18 0a 00ffffffffffffffffff", 2**72 - 1),
        ("07 01 08", [None]),
        ("0f 0001 08", [None]),
        ("10 00000001 08", [None]),
        ("0b 01 0178 08", {"x": None}),
        ("11 0001 0178 08", {"x": None}),
        ("12 00000001 0178 08", {"x": None}),
        ("14 01 0301 08", {1: None}),
        ("15 0001 0301 08", {1: None}),
        ("13 00000001 0301 08", {1: None}),
        ("61 0301 08", {1: None}),
        ("51 0178 08", {"x": None}),
        ("41 08", [None]),
        ("08", None),
        ("16", True),
        ("17", False),
        ("09 bf800000", -1.0),
        ("0a bff0000000000000", -1.0),
        ("19 01 78", b"x"),
        ("1a 0001 78", b"x"),
        ("1b 00000001 78", b"x"),
        ("81 78", "x"),
        ("52 0178 0301 0178 0302", {"x": 2}),
    ],
)
def test_every_valid_form_is_read(data: str, obj: object) -> None:
    whole = bytes.fromhex(data)
    assert same(loads(whole), obj)
    for length in range(len(whole)):
        with pytest.raises(DecodingError):
            loads(whole[:length])
    with pytest.raises(DecodingError, match=f"data after the value at byte {len(whole)}"):
        loads(whole + b"\x08")


@given(OBJECTS)
def test_data_cut_anywhere_is_refused(obj: object) -> None:
    data = dumps(obj)
    for length in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(DecodingError):
            loads(data[:length])


@given(st.binary(max_size=200))
def test_garbage_is_decoded_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        obj = loads(data)
    except DecodingError:
        return
    assert same(loads(dumps(obj)), obj)


@pytest.mark.parametrize("tag", [*range(28, 64), *range(0x70, 0x80)])
def test_an_unknown_tag_is_refused(tag: int) -> None:
    with pytest.raises(DecodingError, match=f"unknown tag {tag:#04x} at byte 1"):
        loads(bytes([0x41, tag, 8, 8, 8]))


@pytest.mark.parametrize("data", ["81ff", "82c328", "83eda080", "0001ff", "5101ff08", "84f4908080"])
def test_text_that_is_no_utf8_is_refused(data: str) -> None:
    with pytest.raises(DecodingError, match="not UTF-8"):
        loads(bytes.fromhex(data))


@pytest.mark.parametrize(
    "header", [b"\x41", b"\x51\x00", b"\x61\x08", b"\x61", b"\x07\x01", b"\x10\x00\x00\x00\x01"]
)
def test_a_nesting_bomb_is_refused(header: bytes) -> None:
    with pytest.raises(DecodingError, match="nested deeper than 128 levels"):
        loads(header * 1_000_000)


def test_128_levels_are_read_and_written_and_129_are_not() -> None:
    levels = loads(b"\x41" * 127 + b"\x40")
    assert dumps(levels) == b"\x41" * 127 + b"\x40"
    with pytest.raises(DecodingError, match="at byte 128"):
        loads(b"\x41" * 128 + b"\x40")
    with pytest.raises(EncodingError, match="nested deeper than 128 levels"):
        dumps([levels])
    with pytest.raises(EncodingError, match="nested deeper than 128 levels"):
        dumps({"a": levels})


@pytest.mark.parametrize(
    "header",
    [
        "10ffffffff",
        "0fffff",
        "07ff",
        "12ffffffff",
        "11ffff",
        "0bff",
        "13ffffffff",
        "15ffff",
        "14ff",
        "4f",
        "5f",
        "6f",
        "0effffffff",
        "1bffffffff",
        "18ff",
    ],
)
def test_a_count_beyond_the_data_is_refused_without_being_allocated(header: str) -> None:
    data = bytes.fromhex(header) + b"\x08" * 10
    tracemalloc.start()
    try:
        with pytest.raises(DecodingError, match=r"than the data can hold|ends inside"):
            loads(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_counts_that_nested_lists_announce_together_are_bounded_by_the_data() -> None:
    # Each level alone could be true; all of them together cannot.
    size = 1_000_000
    bomb = (b"\x10" + struct.pack(">I", size // 2)) * 100
    with pytest.raises(
        DecodingError, match="more items announced than the data can hold at byte 10"
    ):
        loads(bomb + b"\x08" * size)


@pytest.mark.parametrize("data", ["614008", "615008", "616008", "61410808", "62030108 4008"])
def test_a_key_that_python_cannot_hash_is_refused(data: str) -> None:
    with pytest.raises(DecodingError, match="cannot be a key"):
        loads(bytes.fromhex(data))


def test_a_dict_of_colliding_keys_is_refused() -> None:
    # All of these have the same hash in CPython, so that a dict of them takes quadratic time.
    keys = [index * (2**61 - 1) for index in range(3_000)]
    assert len({hash(key) for key in keys}) == 1
    with pytest.raises(DecodingError, match="too many keys"):
        loads(dumps(dict.fromkeys(keys)))
    assert len(loads(dumps(dict.fromkeys(keys[:1000])))) == 1000


class Color(enum.IntEnum):
    RED = 2


class Name(str):
    __slots__ = ()

    def encode(self, *_args: object) -> bytes:
        raise AssertionError


class Number(int):
    def __index__(self) -> int:
        raise AssertionError

    def bit_length(self) -> int:
        raise AssertionError

    def to_bytes(self, *_args: object, **_keywords: object) -> bytes:
        raise AssertionError


class Ratio(float):
    def __float__(self) -> float:
        raise AssertionError


def test_instances_of_subclasses_are_encoded_as_what_they_derive_from() -> None:
    obj = [Color.RED, Name("x"), Number(7), Number(2**64), Ratio(0.5), OrderedDict(a=(1, 2))]
    assert same(loads(dumps(obj)), [2, "x", 7, 2**64, 0.5, {"a": [1, 2]}])
    assert dumps({Name("x"): 1}) == dumps({"x": 1})
    assert dumps({Color.RED: 1}) == dumps({2: 1})


def test_bytes_like_objects_are_encoded_as_bytes_and_can_be_decoded() -> None:
    assert dumps(bytearray(b"ab")) == dumps(memoryview(b"ab")) == dumps(b"ab")
    assert dumps(memoryview(b"abcd")[::2]) == dumps(b"ac")
    data = dumps(["x"])
    assert loads(bytearray(data)) == loads(memoryview(data)) == ["x"]
    assert loads(memoryview(b"\x08" + data + b"\x08")[1:-1]) == ["x"]


def loop() -> list[object]:
    inside: list[object] = []
    inside.append({"again": inside})
    return inside


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (object(), "object has no MiniJSON form"),
        ({1, 2}, "set has no MiniJSON form"),
        ([1j], "complex has no MiniJSON form"),
        ({(1, 2): 3}.keys(), "dict_keys has no MiniJSON form"),
        ("\ud800", "surrogates not allowed"),
        ({"\ud800": 1}, "surrogates not allowed"),
        (2**2039, "256 bytes"),
        (-(2**2039) - 1, "256 bytes"),
        (loop(), "nested deeper than 128 levels"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_has_no_minijson_form_is_refused_with_the_reason(obj: object, why: str) -> None:
    with pytest.raises(EncodingError, match=why):
        dumps(obj)


def test_both_errors_are_value_errors_of_one_family() -> None:
    assert issubclass(MiniJSONError, ValueError)
    assert EncodingError.__mro__[1] is DecodingError.__mro__[1] is MiniJSONError
    assert DecodingError.__module__ == EncodingError.__module__ == "smok_fast.minijson"


@pytest.mark.parametrize("data", ["08", None, 5, [8]])
def test_what_is_no_buffer_of_bytes_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError):
        loads(data)
