"""Frames of NGTT, and where its server is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast import minijson
from smok_fast._core import NGTTDecoder, encode_ngtt_frame
from smok_fast.exceptions import SMOKClientError
from smok_fast.ngtt.exceptions import (
    ConnectionFailed,
    DataStreamSyncFailed,
    InvalidFrame,
    NGTTError,
)
from smok_fast.ngtt.protocol import (
    MAX_DATA,
    NGTTFrame,
    NGTTHeaderType,
    env_to_hostname,
    server_address,
)

VECTOR = bytes.fromhex("00000002 0001 0000 414c")

frames = st.builds(
    NGTTFrame,
    st.integers(0, 0xFFFF),
    st.integers(0, 12) | st.integers(0, 0xFFFF),
    st.binary(max_size=300),
)


def test_the_known_vector() -> None:
    frame = NGTTFrame.from_bytes(VECTOR)
    assert (frame.tid, frame.packet_type, frame.data) == (1, NGTTHeaderType.PING, b"AL")
    assert bytes(frame) == VECTOR
    assert len(frame) == len(VECTOR)
    assert repr(frame) == "NGTTFrame(1, <NGTTHeaderType.PING: 0>, b'AL')"


def test_types_have_the_numbers_of_the_protocol() -> None:
    assert {known.name: known.value for known in NGTTHeaderType} == {
        "PING": 0,
        "ORDER": 1,
        "ORDER_CONFIRM": 2,
        "ORDER_REJECT": 9,
        "FETCH_ORDERS": 10,
    }


@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 400), min_size=1, max_size=10))
def test_any_chunking_gives_the_frames_that_were_sent(
    sent: list[NGTTFrame], sizes: list[int]
) -> None:
    stream = b"".join(map(bytes, sent))
    decoder, received = NGTTDecoder(), []
    while stream:
        size = sizes[len(received) % len(sizes)]
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert [NGTTFrame(*frame) for frame in received] == sent
    assert decoder.is_between_frames
    assert decoder.error is None


@given(frames, st.binary(max_size=20))
def test_a_buffer_gives_its_first_frame_once_that_is_complete(
    frame: NGTTFrame, rest: bytes
) -> None:
    whole = bytes(frame)
    assert NGTTFrame.from_buffer(bytearray(whole + rest)) == (len(whole), frame)
    assert NGTTFrame.from_bytes(whole + rest) == frame
    for end in {0, 7, len(whole) - 1}:
        assert NGTTFrame.from_buffer(bytearray(whole[:end])) is None
        with pytest.raises(InvalidFrame, match=f"{end} bytes are no whole frame"):
            NGTTFrame.from_bytes(whole[:end])


def test_data_is_minijson() -> None:
    assert NGTTFrame(1, NGTTHeaderType.ORDER, minijson.dumps([{"a": 1}])).real_data == [{"a": 1}]
    with pytest.raises(ValueError, match="the data ends"):
        _ = NGTTFrame(1, NGTTHeaderType.ORDER, b"\xff").real_data


def test_unknown_types_are_kept_as_numbers() -> None:
    frame = NGTTFrame.from_bytes(encode_ngtt_frame(1, 77, b""))
    assert frame.packet_type == 77
    assert not isinstance(frame.packet_type, NGTTHeaderType)
    assert NGTTFrame(1, 10).packet_type is NGTTHeaderType.FETCH_ORDERS


def test_a_frame_that_is_too_long_is_an_error_before_it_arrives() -> None:
    header = (MAX_DATA + 1).to_bytes(4) + b"\0\1\0\1"
    message = f"a frame with {MAX_DATA + 1} bytes of data, the limit is {MAX_DATA}"
    for make in (NGTTFrame.from_bytes, NGTTFrame.from_buffer):
        with pytest.raises(InvalidFrame, match=message):
            make(header)
    decoder = NGTTDecoder()
    assert decoder.feed(VECTOR + header) == [(1, 0, b"AL")]
    assert decoder.error == message
    assert decoder.feed(VECTOR) == []
    assert decoder.error == message
    assert not decoder.is_between_frames


def test_a_decoder_has_the_limit_that_it_is_given() -> None:
    decoder = NGTTDecoder(2)
    assert decoder.feed(VECTOR) == [(1, 0, b"AL")]
    assert decoder.feed(encode_ngtt_frame(1, 0, b"ALL")) == []
    assert decoder.error == "a frame with 3 bytes of data, the limit is 2"


@pytest.mark.parametrize(("tid", "packet_type"), [(-1, 0), (65536, 0), (0, -1), (0, 65536)])
def test_numbers_must_fit_the_header(tid: int, packet_type: int) -> None:
    with pytest.raises(OverflowError):
        bytes(NGTTFrame(tid, packet_type))


def test_exceptions() -> None:
    for error in (ConnectionFailed, DataStreamSyncFailed, InvalidFrame):
        assert issubclass(error, NGTTError)
    assert issubclass(NGTTError, SMOKClientError)
    failed = ConnectionFailed(True, "no route")
    assert failed.is_due_to_no_internet
    assert str(failed) == "no route"
    assert not ConnectionFailed().is_due_to_no_internet


def test_the_server_is_that_of_the_environment() -> None:
    assert [env_to_hostname(environment) for environment in (0, 1)] == [
        "api.smok.co",
        "api.test.smok-serwis.pl",
    ]
    assert server_address(None, {}, "api.smok.co") == ("api.smok.co", 2405)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost", ("localhost", 2405)),
        ("localhost:1", ("localhost", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 2405)),
    ],
)
def test_another_server_may_be_given(given: str, address: tuple[str, int]) -> None:
    assert server_address(given, {"SMOK_NGTT": "other:5"}, "default") == address
    assert server_address(None, {"SMOK_NGTT": given}, "default") == address


@pytest.mark.parametrize(
    "given",
    [":2405", "a:0", "a:65536", "a:b", "a:-1", "https://a:1", "a/b", "u@a:1", "[::1", ".a", "a?b"],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="NGTT server"):
        server_address(given, {}, "default")
