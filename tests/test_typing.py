"""The types of pathpoints, and coercing values to them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.pathpoint import PathpointType, to_type

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@pytest.mark.parametrize("letter", "BWwfdu")
def test_a_name_declares_its_type_by_its_first_letter_or_by_the_second_after_r(letter: str) -> None:
    assert PathpointType.get_type(f"{letter}1r4002") is PathpointType[letter]
    assert PathpointType.get_type(f"r{letter}{{W1}}+1") is PathpointType(letter)


@pytest.mark.parametrize("path", ["", "r", "x1", "rx{W1}", "rr", "ż", "1"])
def test_a_name_without_a_type_is_a_value_error_that_names_it(path: str) -> None:
    with pytest.raises(
        ValueError, match=f"'{path.replace('{', '.').replace('}', '.')}' is no path"
    ):
        PathpointType.get_type(path)


@pytest.mark.parametrize(
    ("value", "type_", "coerced"),
    [
        (2, PathpointType.B, True),
        (0.9, PathpointType.B, False),
        ("1", PathpointType.B, True),
        (70000, PathpointType.W, 65535),
        (65535, PathpointType.W, 65535),
        (-1, PathpointType.W, 0),
        (21.9, PathpointType.W, 21),
        ("12", PathpointType.W, 12),
        (" -12_0 ", PathpointType.w, -120),
        (32768, PathpointType.w, 32767),
        (-32769.5, PathpointType.w, -32768),
        (True, PathpointType.w, 1),
        (2**100, PathpointType.W, 65535),
        ("1e3", PathpointType.f, 1000.0),
        (1, PathpointType.f, 1.0),
        ("-0.1", PathpointType.d, -0.1),
        (1.5, PathpointType.u, "1.5"),
        ("żółw", PathpointType.u, "żółw"),
    ],
)
def test_a_value_is_coerced_to_the_type(
    value: object, type_: PathpointType, coerced: object
) -> None:
    result = to_type(value, type_)
    assert result == coerced
    assert type(result) is type(coerced)


@given(NUMBERS, st.sampled_from(PathpointType))
def test_coercing_what_was_coerced_changes_nothing(value: float, type_: PathpointType) -> None:
    try:
        once = to_type(value, type_)
    except ValueError:
        assert type_ in {PathpointType.f, PathpointType.d}  # an integer beyond every float
        return
    assert to_type(once, type_) == once


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (math.nan, PathpointType.W),
        (math.inf, PathpointType.w),
        (-math.inf, PathpointType.B),
        ("12.5", PathpointType.W),
        ("on", PathpointType.B),
        ("warm", PathpointType.f),
        (10**400, PathpointType.d),
        (None, PathpointType.W),
        ([1], PathpointType.d),
        (1, "W"),
        (1, None),
    ],
)
def test_what_cannot_be_coerced_is_a_value_error(value: object, type_: object) -> None:
    with pytest.raises(ValueError, match=r"cannot become|is no PathpointType"):
        to_type(value, type_)
