"""Names of MODBUS pathpoints, and the layout of values in registers."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.modbus import RegisterName, Table, parse_name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("W1r4002", ("W", 1, Table.HOLDING_REGISTERS, 4002, 1, True)),
        ("w247r0", ("w", 247, Table.HOLDING_REGISTERS, 0, 1, True)),
        ("B0r65535", ("B", 0, Table.HOLDING_REGISTERS, 65535, 1, True)),
        ("f1r65534", ("f", 1, Table.HOLDING_REGISTERS, 65534, 2, True)),
        ("d255i65532", ("d", 255, Table.INPUT_REGISTERS, 65532, 4, False)),
        ("f1l100", ("f", 1, Table.INPUT_REGISTERS, 100, 2, False)),
        ("B1f7", ("B", 1, Table.COILS, 7, 1, True)),
        ("W1d7", ("W", 1, Table.DISCRETE_INPUTS, 7, 1, False)),
    ],
)
def test_a_name_says_type_unit_table_and_address(name, says):
    register = parse_name(name)
    assert says == (
        register.type,
        register.unit,
        register.table,
        register.address,
        register.count,
        register.is_writable,
    )


def test_names_of_the_same_register_are_equal():
    assert parse_name("W1r07") == RegisterName("W1r7")
    assert parse_name("f1l7") == parse_name("f1i7")
    assert len({parse_name("W1r7"), parse_name("W1r07"), parse_name("w1r7")}) == 2
    assert repr(parse_name("W1r7")) == "<RegisterName: type W, unit 1, table 3, address 7>"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "not the name of a register"),
        ("W1", "not the name of a register"),
        ("W1r4002 ", "not the name of a register"),
        ("W1r٤", "not the name of a register"),
        ("rW{W1r1}", "not the name of a register"),
        ("u1r1", "registers have the types B, W, w, f and d, not u"),
        ("W1x1", "the tables are r, i, l, f and d, there is no x"),
        ("W256r1", "a unit is 0 to 255, not 256"),
        ("W1r65536", "an address is 0 to 65535, not 65536"),
        ("f1r65535", "past the last address"),
        ("W1l1", "table l holds no values of type W"),
        ("f1f1", "table f holds no values of type f"),
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
        ("B1r0", [0x0100], 1),
        ("B1r0", [0], 0),
        ("B1f0", [True], 1),
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
def test_a_float_that_is_no_number_is_no_value(name, value):
    register = parse_name(name)
    packed = struct.pack(">f" if register.count == 2 else ">d", value)
    with pytest.raises(ValueError, match="hold no number"):
        register.decode(struct.unpack(f">{register.count}H", packed))
    with pytest.raises(ValueError, match="the type cannot hold the value"):
        register.encode(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("W1r0", 65536),
        ("W1r0", -1),
        ("W1r0", 10**30),
        ("w1r0", 32768),
        ("W1r0", "7"),
        ("W1r0", None),
        ("f1r0", 1e39),
        ("d1r0", "x"),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_refused(name, value):
    with pytest.raises(ValueError, match="the type cannot hold the value"):
        parse_name(name).encode(value)
    with pytest.raises(ValueError, match="the type cannot hold the value"):
        parse_name(name).write_request(value)


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
    with pytest.raises(ValueError, match="the table can only be read"):
        parse_name(name).write_request(1)


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
