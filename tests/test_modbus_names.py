"""Names of MODBUS pathpoints, and the layout of values in registers."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus import RegisterName, Table, parse_name


@pytest.mark.parametrize(
    ("name", "register", "count"),
    [
        ("W1r4002", RegisterName("W", 1, Table.HOLDING_REGISTERS, 4002), 1),
        ("w247r0", RegisterName("w", 247, Table.HOLDING_REGISTERS, 0), 1),
        ("B0r65535", RegisterName("B", 0, Table.HOLDING_REGISTERS, 65535), 1),
        ("f1r65534", RegisterName("f", 1, Table.HOLDING_REGISTERS, 65534), 2),
        ("d255i65532", RegisterName("d", 255, Table.INPUT_REGISTERS, 65532), 4),
        ("f1l100", RegisterName("f", 1, Table.INPUT_REGISTERS, 100), 2),
        ("B1f7", RegisterName("B", 1, Table.COILS, 7), 1),
        ("W1d7", RegisterName("W", 1, Table.DISCRETE_INPUTS, 7), 1),
    ],
)
def test_a_name_says_type_unit_table_and_address(name, register, count):
    assert parse_name(name) == register
    assert register.count == count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is not the name of a register"),
        ("W1", "is not the name of a register"),
        ("W1r", "is not the name of a register"),
        ("W1r-4", "is not the name of a register"),
        ("W1r4002 ", "is not the name of a register"),
        ("W1r٤", "is not the name of a register"),
        ("rW{W1r1}", "is not the name of a register"),
        ("u1r1", "registers have the types B, W, w, f and d, not u"),
        ("W1x1", "there is no x"),
        ("W256r1", "a unit must be 0 to 255, not 256"),
        ("W1r65536", "an address must be 0 to 65535, not 65536"),
        ("f1r65535", "past the last address"),
        ("d1i65533", "past the last address"),
        ("W1l1", "table l holds floats"),
        ("f1f1", "table f holds bits, which are no f"),
        ("d1d1", "table d holds bits, which are no d"),
    ],
)
def test_what_is_no_name_of_a_register_is_refused_with_the_reason(name, message):
    with pytest.raises(ValueError, match=message):
        parse_name(name)


@given(st.text())
def test_any_text_is_a_register_or_a_value_error(text):
    try:
        register = parse_name(text)
    except ValueError:
        return
    assert register.read_request().count == register.count


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("W1r0", [0xFFFE], 65534),
        ("w1r0", [0xFFFE], -2),
        ("w1r0", [0x7FFF], 32767),
        ("B1r0", [0x0100], True),
        ("B1r0", [0], False),
        ("B1f0", [True], True),
        ("W1f0", [True], 1),
        ("w1d0", [False], 0),
        ("f1r0", [0x41FB, 0x77DA], struct.unpack(">f", bytes.fromhex("41fb77da"))[0]),
        ("f1l0", [0x3FC0, 0], 1.5),
        ("d1r0", [0x3FF8, 0, 0, 0], 1.5),
    ],
)
def test_registers_decode_with_the_most_significant_one_first(name, words, value):
    decoded = parse_name(name).decode(words)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("name", ["f1r0", "f1l0", "d1r0"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_no_number_is_a_failure_of_reason_type(name, value):
    register = parse_name(name)
    packed = struct.pack(">f" if register.count == 2 else ">d", value)
    with pytest.raises(OperationFailedError) as failure:
        register.decode(struct.unpack(f">{register.count}H", packed))
    assert failure.value.reason is OperationFailedReason.TYPE
    with pytest.raises(OperationFailedError) as failure:
        register.encode(value)
    assert failure.value.reason is OperationFailedReason.TYPE


@pytest.mark.parametrize(
    ("name", "value"),
    [("W1r0", 65536), ("W1r0", -1), ("w1r0", 32768), ("W1r0", "7"), ("f1r0", 1e39), ("d1r0", "x")],
)
def test_a_value_that_the_type_cannot_hold_is_a_failure_of_reason_type(name, value):
    with pytest.raises(OperationFailedError) as failure:
        parse_name(name).encode(value)
    assert failure.value.reason is OperationFailedReason.TYPE


@given(
    st.one_of(
        st.tuples(st.just("W1r0"), st.integers(0, 65535)),
        st.tuples(st.just("w1r0"), st.integers(-32768, 32767)),
        st.tuples(st.just("B1r0"), st.booleans()),
        st.tuples(st.just("B1f0"), st.booleans()),
        st.tuples(st.just("f1r0"), st.floats(width=32, allow_nan=False, allow_infinity=False)),
        st.tuples(st.just("d1r0"), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_a_value_is_decoded_as_it_was_encoded(case):
    name, value = case
    register = parse_name(name)
    words = register.encode(value)
    assert len(words) == register.count
    assert register.decode(words) == value


@pytest.mark.parametrize("name", ["W1i0", "f1l0", "B1d0"])
def test_tables_of_inputs_cannot_be_written(name):
    with pytest.raises(OperationFailedError) as failure:
        parse_name(name).write_request(1)
    assert failure.value.reason is OperationFailedReason.INVALID


@pytest.mark.parametrize(
    ("name", "value", "function", "values"),
    [
        ("B1f3", True, 5, [True]),
        ("W1r3", 7, 6, [7]),
        ("w1r3", -1, 6, [65535]),
        ("B1r3", True, 6, [1]),
        ("f1r3", 1.5, 16, [0x3FC0, 0]),
        ("d1r3", 1.5, 16, [0x3FF8, 0, 0, 0]),
    ],
)
def test_a_write_uses_the_function_for_one_or_for_several(name, value, function, values):
    request = parse_name(name).write_request(value)
    assert (request.function, request.address, request.values) == (function, 3, values)
