"""The MODBUS codec against vectors, byte for byte, and against hostile bytes."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast._core import ModbusClient, ModbusRequest, ModbusServer
from smok_fast.modbus import ExceptionResponseError, FrameError, ModbusError

VECTORS = json.loads((Path(__file__).parent / "data" / "modbus_vectors.json").read_text())
REQUESTS = [vector for vector in VECTORS if vector["direction"] == "request"]
RESPONSES = [vector for vector in VECTORS if vector["direction"] == "response"]
SERVED = {1, 2, 3, 4, 5, 6, 15, 16}


def name_of(vector):
    return vector["name"]


def transaction_of(vector):
    """Vectors of other framings have none: only their PDUs are of use here."""
    return 7 if vector["tid"] is None else vector["tid"]


def frame_of(vector):
    if vector["framing"] == "tcp":
        return bytes.fromhex(vector["frame_hex"])
    pdu = bytes.fromhex(vector["pdu_hex"])
    return struct.pack(">HHHB", transaction_of(vector), 0, len(pdu) + 1, vector["unit"]) + pdu


def begin(request, transaction):
    """A client that has opened the request under this transaction identifier, and its frame."""
    client = ModbusClient()
    for _ in range(transaction):
        frame = client.begin(request)
    return client, frame


def values_of(vector):
    """What a request writes or a response says, by the vector or else by its bytes."""
    decoded, pdu = vector["decoded"], bytes.fromhex(vector["pdu_hex"])
    if "value" in decoded:
        return [decoded["value"]]
    if vector["function"] in (1, 2):
        bits = [byte >> bit & 1 for byte in pdu[2:] for bit in range(8)]
        return decoded.get("bits", bits)
    if vector["function"] in (3, 4):
        return decoded.get("registers", [*struct.unpack(f">{pdu[1] // 2}H", pdu[2:])])
    return decoded.get("bits", decoded.get("registers", []))


def request_for(vector):
    """The request that a response vector answers, as far as its answer depends on it."""
    function, decoded = vector["function"], vector["decoded"]
    if "exception" in decoded:
        argument = [1] if function > 6 else 1
    elif function <= 4:
        argument = len(values_of(vector))
    elif function <= 6:
        argument = decoded["value"]
    else:
        argument = [1] * decoded["count"]
    return ModbusRequest(vector["unit"], function, decoded.get("address", 0), argument)


@pytest.mark.parametrize("vector", REQUESTS, ids=name_of)
def test_a_server_decodes_the_request(vector):
    (query,) = ModbusServer().feed(frame_of(vector))
    assert (query.unit, query.function) == (vector["unit"], vector["function"])
    if vector["function"] not in SERVED:
        assert (query.request, query.refusal) == (None, 1)
        return
    request, decoded = query.request, vector["decoded"]
    assert query.refusal is None
    assert (request.unit, request.function) == (vector["unit"], vector["function"])
    assert request.address == decoded.get("address", request.address)
    assert request.count == decoded.get("count", request.count)
    if vector["function"] > 4 and decoded.keys() & {"value", "bits", "registers"}:
        assert request.values == values_of(vector)


@pytest.mark.parametrize(
    "vector", [vector for vector in REQUESTS if vector["function"] in SERVED], ids=name_of
)
def test_a_client_encodes_the_request(vector):
    pdu = bytes.fromhex(vector["pdu_hex"])
    function, address, word = struct.unpack(">BHH", pdu[:5])
    argument = word
    if function == 5:
        argument = word == 0xFF00
    elif function == 15:
        argument = [pdu[6 + bit // 8] >> bit % 8 & 1 for bit in range(word)]
    elif function == 16:
        argument = struct.unpack(f">{word}H", pdu[6:])
    request = ModbusRequest(vector["unit"], function, address, argument)
    _, frame = begin(request, transaction_of(vector))
    assert frame == frame_of(vector)


@pytest.mark.parametrize(
    "vector", [vector for vector in RESPONSES if vector["function"] in SERVED], ids=name_of
)
def test_a_client_decodes_what_a_server_encodes_as_the_response(vector):
    client, frame = begin(request_for(vector), transaction_of(vector))
    (query,) = ModbusServer().feed(frame)
    if "exception" in vector["decoded"]:
        code = vector["decoded"]["exception"]
        assert query.refuse(code) == frame_of(vector)
        with pytest.raises(ExceptionResponseError) as refusal:
            client.feed(frame_of(vector))
        assert refusal.value.code == code
    else:
        reads = vector["function"] <= 4
        assert query.answer(values_of(vector)) == frame_of(vector)
        assert client.feed(frame_of(vector)) == (values_of(vector) if reads else [])
    assert client.is_between_frames


@pytest.mark.parametrize(
    "vector",
    [v for v in RESPONSES if v["function"] not in SERVED and "exception" in v["decoded"]],
    ids=name_of,
)
def test_a_server_refuses_functions_that_it_does_not_have(vector):
    header = struct.pack(">HHHB", transaction_of(vector), 0, 2, vector["unit"])
    (query,) = ModbusServer().feed(header + bytes([vector["function"]]))
    assert query.refusal == 1
    assert query.refuse(vector["decoded"]["exception"]) == frame_of(vector)


@pytest.mark.parametrize("vector", RESPONSES, ids=name_of)
def test_the_response_to_nothing_is_counted_as_stale(vector):
    client = ModbusClient()
    assert client.feed(frame_of(vector)) is None
    assert (client.stale, client.other_unit, client.is_between_frames) == (1, 0, True)


@given(st.lists(st.sampled_from([frame_of(vector) for vector in REQUESTS])), st.data())
def test_any_chunking_of_a_stream_gives_the_same_requests(frames, data):
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    server = ModbusServer()
    functions = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        functions += [query.function for query in server.feed(stream[start:end])]
    assert functions == [frame[7] for frame in frames]
    assert server.error is None


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_hostile_bytes_give_requests_or_an_error_that_stays(chunks):
    server = ModbusServer()
    for chunk in chunks:
        broken = server.error
        queries = server.feed(chunk)
        assert not (broken and queries)
        assert server.error == broken or broken is None


@given(
    st.sampled_from([(1, 9), (3, 2), (6, 2), (16, [1, 2])]),
    st.binary(max_size=300).map(lambda pdu: pdu[:253]),
)
def test_a_hostile_response_is_a_value_or_a_modbus_error(asked, pdu):
    client = ModbusClient()
    client.begin(ModbusRequest(1, asked[0], 0, asked[1]))
    try:
        answer = client.feed(struct.pack(">HHHB", 1, 0, len(pdu) + 1, 1) + pdu)
    except FrameError:
        assert not pdu
    except ModbusError:
        assert pdu
    else:
        assert len(answer) == (asked[1] if asked[0] <= 4 else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((256, 3, 0, 1), "a unit must be 0 to 255, not 256"),
        ((-1, 3, 0, 1), "a unit must be 0 to 255, not -1"),
        ((1, 3, 65536, 1), "an address must be 0 to 65535, not 65536"),
        ((1, 3, 65535, 2), "2 elements from address 65535 on go past the last address"),
        ((1, 3, 0, 126), "function 3 takes 1 to 125 elements, not 126"),
        ((1, 1, 0, 2001), "function 1 takes 1 to 2000 elements, not 2001"),
        ((1, 3, 0, 0), "function 3 takes 1 to 125 elements, not 0"),
        ((1, 15, 0, [True] * 1969), "function 15 takes 1 to 1968 elements, not 1969"),
        ((1, 16, 0, [0] * 124), "function 16 takes 1 to 123 elements, not 124"),
        ((1, 16, 0, []), "function 16 takes 1 to 123 elements, not 0"),
        ((1, 16, 0, [1, 70000]), "a register must be 0 to 65535, not 70000"),
        ((1, 6, 0, -1), "a register must be 0 to 65535, not -1"),
        ((1, 23, 0, 1), "function 23 is not supported"),
    ],
)
def test_a_request_beyond_the_specification_cannot_be_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModbusRequest(*arguments)
