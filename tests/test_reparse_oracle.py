"""Reparse expressions against CPython: whatever Hypothesis thinks of, result and type are the same.

The environment variable SMOK_FAST_EXAMPLES sets how many expressions are tried instead of 5000.
"""

from __future__ import annotations

import math
import os
import random
import re
import sys

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reparse_oracle import FUNCTIONS, MAX_TEXT, Failed, TooLarge, Value, expected, in_language
from smok_fast.sensor.reparse import Expression, ReparseError, ReparseSyntaxError

EXAMPLES = int(os.environ.get("SMOK_FAST_EXAMPLES", "5000"))
VARIABLES = ("W1", "W2", "f1", "f2", "u1", "u2", "B1", "x1")

#: With how many sets of values each expression is tried.
ROWS = 5

thorough = settings(
    max_examples=max(1, EXAMPLES // ROWS),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.timeout(120 + EXAMPLES // 50)

EDGES = [0, 1, 2, 3, 7, 10, 20, 1136, 2**15, 2**16, 2**31, 2**53, 2**62, 2**63, 2**64, 2**126]
numbers = st.sampled_from(EDGES).flatmap(lambda edge: st.integers(max(0, edge - 2), edge + 2))
int_literals = st.one_of(
    numbers.map(str),
    numbers.map(hex),
    numbers.map(oct),
    numbers.map(lambda number: f"0B{number:b}"),
    numbers.map(lambda number: f"{number:_}"),
    numbers.map(lambda number: f"0X_{number:_X}"),
    st.sampled_from(["0_0", "000"]),
)
float_literals = st.one_of(
    st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(0, 1000).map(lambda number: str(number / 8)),
    st.sampled_from(
        ["1.", ".5", "1e5", "1E-3", "1_0.0_1", "1e309", "0.0", "00.5", "09e1", "5e-324"]
    ),
)
letters = st.characters(exclude_characters="{}\0", exclude_categories=["Cs"])
numeric_texts = st.sampled_from(
    [
        "12",
        "-7",
        " 12 ",
        "1_0",
        "0x1f",
        "+5",
        "1e5",
        " .5\n",
        "nan",
        "-inf",
        "\u20037\xa0",
        "1__0",
        "٣",
    ]
)
texts = st.one_of(
    st.text("abAZ019 _'\"\\.\n", max_size=6), st.text(letters, max_size=4), numeric_texts
)
text_literals = st.one_of(
    texts.map(repr),
    texts.map(ascii),
    st.tuples(texts, texts).map(lambda pair: f"{pair[0]!r} {pair[1]!r}"),
    st.sampled_from(
        [r"'\x41\101\u0105\U0001F600'", r"r'\n\''", r"u'a'", '""""a"b""" "c"', r"'\d'"]
    ),
).filter(lambda literal: "\\N" not in literal)
booleans = st.sampled_from(["True", "False"])


def pathpoints(*names: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{{{name}}}" for name in names])


ARITHMETIC = ["+", "-", "*", "/", "//", "%", "**"]
BITS = ["&", "|", "^", "<<", ">>"]
LOGIC = ["and", "or"]
ORDER = ["==", "!=", "<", "<=", ">", ">="]
MEMBERSHIP = ["in", "not in"]
OPERATORS = ARITHMETIC + BITS + LOGIC + ORDER + MEMBERSHIP
Strategy = st.SearchStrategy[str]


SPACE = st.sampled_from([" ", " ", "", "\t"])


def joined(*parts: Strategy | str, space: Strategy = SPACE) -> Strategy:
    """Parts with spaces between them, where CPython's tokens allow to leave them out."""
    texts = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(st.tuples(*texts), space).map(lambda drawn: drawn[1].join(drawn[0]))


def part(inner: Strategy) -> Strategy:
    """An operand, which may or may not be in parentheses."""
    return st.one_of(inner, inner.map(lambda text: f"({text})"))


def words(names: list[str]) -> Strategy:
    """Operators; those that are words stand between spaces."""
    return st.sampled_from(
        [f" {name} " if name.isalpha() or " " in name else name for name in names]
    )


def call(names: list[str], argument: Strategy) -> Strategy:
    def of(name: str) -> Strategy:
        counts = [count for count in FUNCTIONS[name][1] if count <= 3]
        arguments = st.sampled_from(counts).flatmap(
            lambda count: st.lists(argument, min_size=count, max_size=count)
        )
        return arguments.map(lambda texts: f"{name}({', '.join(texts)})")

    return st.sampled_from(names).flatmap(of)


def general(inner: Strategy) -> list[Strategy]:
    """What takes operands of any type."""
    any_part = part(inner)
    return [
        joined(any_part, words(LOGIC), any_part),
        joined("not ", any_part),
        joined(any_part, words(ORDER), any_part, words(ORDER), any_part),
        joined(any_part, " if ", any_part, " else ", any_part),
        call(["min", "max"], inner),
    ]


def of_integers(inner: Strategy) -> Strategy:
    operand = part(inner)
    return st.one_of(
        joined(operand, words(ARITHMETIC + BITS), operand),
        joined(operand, words(ARITHMETIC + BITS), operand, words(ARITHMETIC + BITS), operand),
        joined(st.sampled_from(["+", "-", "~"]), operand),
        joined(operand, words(ORDER), operand),
        call(["int", "bool", "negz", "mkint32", "D"], inner),
        *general(inner),
    )


def of_numbers(inner: Strategy) -> Strategy:
    operand = part(inner)
    return st.one_of(
        joined(operand, words(ARITHMETIC), operand),
        joined(operand, words(ARITHMETIC), operand, words(ARITHMETIC), operand),
        joined(st.sampled_from(["+", "-"]), operand),
        joined(operand, words(ORDER), operand),
        call([name for name in FUNCTIONS if name not in ("str", "min", "max")], inner),
        *general(inner),
    )


def of_texts(inner: Strategy) -> Strategy:
    operand = part(inner)
    index = st.one_of(st.integers(-4, 4).map(str), pathpoints("B1"), st.just("{W1}%3"))
    bound = st.one_of(st.just(""), index)
    return st.one_of(
        joined(operand, words(["+", *ORDER, *MEMBERSHIP]), operand),
        joined(operand, "*", index),
        st.tuples(operand, index).map(lambda parts: "{}[{}]".format(*parts)),
        st.tuples(operand, bound, bound).map(lambda parts: "{}[{}:{}]".format(*parts)),
        st.tuples(operand, bound, bound, bound).map(lambda parts: "{}[{}:{}:{}]".format(*parts)),
        call(["str", "int", "float", "bool"], inner),
        *general(inner),
    )


def of_anything(inner: Strategy) -> Strategy:
    operand = part(inner)
    return st.one_of(
        joined(operand, words(OPERATORS), operand),
        joined(st.sampled_from(["+", "-", "~", "not "]), operand),
        st.tuples(operand, operand).map(lambda parts: "{}[{}]".format(*parts)),
        st.tuples(operand, operand, operand).map(lambda parts: "{}[{}:{}]".format(*parts)),
        call(list(FUNCTIONS), inner),
        *general(inner),
    )


integers = st.recursive(
    st.one_of(int_literals, booleans, pathpoints("W1", "W2", "B1")), of_integers, max_leaves=8
)
reals = st.recursive(
    st.one_of(float_literals, int_literals, pathpoints("W1", "f1", "f2"), integers),
    of_numbers,
    max_leaves=8,
)
strings = st.recursive(st.one_of(text_literals, pathpoints("u1", "u2")), of_texts, max_leaves=8)
leaves = st.one_of(int_literals, float_literals, text_literals, booleans, pathpoints(*VARIABLES))
anything = st.recursive(st.one_of(leaves, reals, strings), of_anything, max_leaves=4)
expressions = st.one_of(integers, reals, strings, anything)

# Drawn once, since most of the time goes into drawing.
_random = random.Random(1)
INTS = [
    *(sign * edge + step for edge in EDGES for sign in (-1, 1) for step in (-1, 0, 1)),
    *(_random.randrange(65536) for _ in range(50)),
    *(_random.randrange(-(2**63), 2**63) for _ in range(50)),
]
INTS = [number for number in INTS if -(2**63) <= number < 2**63]
FLOATS = [
    *(0.0, -0.0, 0.5, math.inf, -math.inf, math.nan, 5e-324, 1e308, 1136.5, 3276.0, 80.31, 94.4),
    *(float(number) for number in INTS[:100]),
    *(_random.randrange(-1000, 1000) / 10 for _ in range(50)),
    *(_random.uniform(800, 3500) for _ in range(50)),
    *(_random.uniform(-10, 10) ** _random.randrange(-30, 30) for _ in range(50)),
]
samples = st.fixed_dictionaries(
    {
        "W1": st.sampled_from(INTS),
        "W2": st.sampled_from(INTS),
        "f1": st.sampled_from(FLOATS),
        "f2": st.sampled_from(FLOATS),
        "u1": texts,
        "u2": numeric_texts,
        "B1": st.booleans(),
        "x1": st.one_of(st.sampled_from([*INTS, *FLOATS]), texts),
    }
)
rows = st.lists(samples, min_size=ROWS, max_size=ROWS)


def check(text: str, variables: dict[str, Value]) -> None:
    """The expression is what CPython says, or fails as CPython does, or exceeds a limit."""
    expression = Expression(text)
    arguments = [variables[name] for name in expression.variables]
    wanted = expected(text, variables)
    try:
        result = expression.evaluate(arguments)
    except ReparseError as error:
        if isinstance(wanted, TooLarge):
            assert error.reason.value in ("invalid", "type")
            return
        assert isinstance(wanted, Failed), (error, wanted)
        is_type = isinstance(wanted.error, TypeError) or "not an integer" in str(wanted.error)
        assert error.reason.value == ("type" if is_type else "invalid"), wanted
        words = str(wanted.error)
        # Words change between versions of Python, struct has two for the same mistake, and only
        # CPython knows which characters it escapes.
        stable = sys.version_info[:2] == (3, 11)
        if stable and not re.search(r"argument out of range|\\[xuU]", words):
            assert error.message == words
    else:
        if isinstance(wanted, TooLarge) and str(wanted) == "text":
            return  # the walk counts more than is handled
        assert (type(result), repr(result)) == (type(wanted), repr(wanted))


@thorough
@given(text=expressions, rows=rows)
def test_an_expression_is_what_cpython_says_in_value_and_type(
    text: str, rows: list[dict[str, Value]]
) -> None:
    assume(in_language(text, VARIABLES))
    for variables in rows:
        check(text, variables)


tokens = st.one_of(
    leaves,
    st.sampled_from([*OPERATORS, "not", "~", "if", "else", "(", ")", "[", "]", ",", ":"]),
    st.sampled_from(list(FUNCTIONS)).map(lambda name: f"{name}("),
    st.sampled_from(["is", "None", "lambda", ".", "=", ":=", "os", "for", "1j", "b'a'", "f'a'"]),
    st.sampled_from([*FUNCTIONS, "0x", "1_", "1__0", "01", "'", "#", ";", "@", "\\", "*", "->"]),
)


def test_a_pathpoint_in_the_middle_of_a_text_is_no_part_of_the_language() -> None:
    assert not in_language("''''{W1}'12'''", VARIABLES)
    assert in_language("{W1}+{W1}", VARIABLES)
    with pytest.raises(ReparseSyntaxError, match="a brace inside a text"):
        Expression("''''{W1}'12'''")


@thorough
@given(parts=st.lists(st.tuples(tokens, st.sampled_from(["", " "])), max_size=8), rows=rows)
def test_exactly_pythons_expressions_without_the_refused_parts_are_accepted(
    parts: list[tuple[str, str]], rows: list[dict[str, Value]]
) -> None:
    text = "".join(token + space for token, space in parts).strip()
    assume("#" not in text)  # CPython takes comments
    if in_language(text, VARIABLES):
        try:
            for variables in rows:
                check(text, variables)
        except ReparseSyntaxError as error:
            assert error.message == "the integer does not fit 128 bits"
    else:
        with pytest.raises(ReparseSyntaxError):
            Expression(text)


@settings(thorough, max_examples=max(1, EXAMPLES // 20))
@given(text=expressions, rows=rows)
def test_a_series_has_what_each_row_has_by_itself(text: str, rows: list[dict[str, Value]]) -> None:
    assume(in_language(text, VARIABLES))
    expression = Expression(text)
    assume(expression.variables)
    columns = [(range(len(rows)), [row[name] for row in rows]) for name in expression.variables]
    timestamps, results = expression.evaluate_series(columns)
    assert list(timestamps) == list(range(len(rows)))
    for row, result in zip(rows, list(results), strict=True):
        try:
            alone = expression.evaluate([row[name] for name in expression.variables])
        except ReparseError as error:
            assert isinstance(result, ReparseError)
            assert (result.message, result.reason) == (error.message, error.reason)
        else:
            assert (type(result), repr(result)) == (type(alone), repr(alone))


def test_the_oracle_knows_the_limits() -> None:
    assert isinstance(expected("2**127", {}), TooLarge)
    assert isinstance(expected("2**63", {}), TooLarge)
    assert isinstance(expected(f"'a'*{MAX_TEXT}+''", {}), TooLarge)
    assert isinstance(expected("1/0", {}), Failed)
    assert expected("2**126//2**120", {}) == 64
