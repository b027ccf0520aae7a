"""Reparse expressions: their language, its limits, its functions and series."""

from __future__ import annotations

import ast
import gc
import io
import itertools
import math
import pickle
import random
import re
import struct
import threading
import time
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

import smok_fast
from reparse_oracle import KTY81, PT100
from smok_fast.exceptions import OperationFailedError, OperationFailedReason, SMOKClientError
from smok_fast.pathpoint import PathpointType, to_type
from smok_fast.sensor.reparse import (
    Expression,
    ReparseError,
    ReparseSyntaxError,
    parse,
    reparse_to_native_components,
)

INT64_MAX = 2**63 - 1


def test_an_expression_names_each_pathpoint_once_in_order_of_appearance() -> None:
    expression = Expression("{W2}+{W1r4002}*{W2}-{rW{W1r4002}+{f9}}")
    assert expression.variables == ("W2", "W1r4002", "rW{W1r4002}+{f9}")
    assert expression.evaluate([1, 2, 3]) == 1 + 2 * 1 - 3
    assert expression(1, 2, 3) == 0


def test_an_expression_shows_its_text_and_can_be_pickled() -> None:
    expression = Expression("{W1} + 'a'")
    assert expression.text == "{W1} + 'a'"
    assert repr(expression) == "Expression(\"{W1} + 'a'\")"
    assert pickle.loads(pickle.dumps(expression)).text == expression.text  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("text", "values", "result"),
    [
        ("{a}", [True], True),
        ("{a}", [7], 7),
        ("{a}", [7.0], 7.0),
        ("{a}", ["7"], "7"),
        ("{a}/1", [True], 1.0),
        ("True+True", [], 2),
        ("True and 'x'", [], "x"),
        ("0 or 0.0", [], 0.0),
        ("7//2*2+7%2", [], 7),
        ("-7//2", [], -4),
        ("-7%3", [], 2),
        ("7.5//-2", [], -4.0),
        ("-2**2", [], -4),
        ("2**-1", [], 0.5),
        ("2**3**2", [], 512),
        ("~5 & 0xFF", [], 250),
        ("not 1 == 2", [], True),
        ("1 < 2 < 3 > 0", [], True),
        ("1 if 0 else 2 if 0 else 3", [], 3),
        ("'żółw'[1:3] + 'a' * 3", [], "ółaaa"),
        ("'abc'[::-1]", [], "cba"),
        ("'b' in 'abc' not in 'xyz'", [], None),
        ("max(1, 2.5, 2)", [], 2.5),
        ("min('hello')", [], "e"),
        ("int(' 0x_ff ', 0) + int('z', 36)", [], 290),
        ("str(1e16) + str(1e-05) + str(0.1) + str(True)", [], "1e+161e-050.1True"),
        ("float('1e5')", [], 100000.0),
        ("9007199254740993 > 9007199254740992.0", [], True),
        ("2**64 // 2**60", [], 16),
        ("(2**63 + 2**63) / 2**64", [], 1.0),
        ("1if{a}else 2", [1], 1),
        ("{a}in'abc'", ["a"], True),
        ("\t(1 +\n 2)\n", [], 3),
        ("'''it's''' r'\\d' \"\\x7b\"", [], "it's\\d{"),
    ],
)
def test_results_have_the_value_and_the_type_that_python_gives_them(
    text: str, values: list[float | str], result: object
) -> None:
    if result is None:  # `'abc' not in 'xyz'` decides the chain
        result = True
    computed = Expression(text).evaluate(values)
    assert (type(computed), computed) == (type(result), result)


def test_zero_keeps_the_sign_that_python_gives_it() -> None:
    for text in ("0/-5", "-0.0", "0.0 % -2", "-1.0 * 0", "0.0 // -1"):
        result = Expression(text).evaluate(())
        assert isinstance(result, float)
        assert (result, math.copysign(1, result)) == (0.0, -1.0), text


def test_only_what_is_needed_is_evaluated() -> None:
    assert Expression("1/{a} if {a} else 0").evaluate([0]) == 0
    assert Expression("{a} and 1/{a}").evaluate([0]) == 0
    assert Expression("1 or 1/0").evaluate(()) == 1
    assert Expression("{a} < 0 < 1/{a}").evaluate([0]) is False


@pytest.mark.parametrize(
    ("text", "values", "message", "reason"),
    [
        ("{a}/0", [1], "division by zero", "invalid"),
        ("{a}/0", [1.0], "float division by zero", "invalid"),
        ("0 ** -1", [], "0.0 cannot be raised to a negative power", "invalid"),
        ("{a}+'x'", [1], "unsupported operand type(s) for +: 'int' and 'str'", "type"),
        ("'x'+{a}", [1.5], 'can only concatenate str (not "float") to str', "type"),
        (
            "{a} < {b}",
            ["x", True],
            "'<' not supported between instances of 'str' and 'bool'",
            "type",
        ),
        ("int({a})", ["0x10"], "invalid literal for int() with base 10: '0x10'", "invalid"),
        ("int({a})", [math.inf], "cannot convert float infinity to integer", "invalid"),
        ("float({a})", ["12 V"], "could not convert string to float: '12 V'", "invalid"),
        ("{a}[9]", ["abc"], "string index out of range", "invalid"),
        ("{a}[0]", [5], "'int' object is not subscriptable", "type"),
        ("10.0 ** {a}", [400], "(34, 'Numerical result out of range')", "invalid"),
        ("1 << {a}", [-1], "negative shift count", "invalid"),
        ("{a} + 1", [INT64_MAX], "the integer result does not fit 64 bits", "invalid"),
        ("{a} ** 99", [3], "an integer on the way does not fit 128 bits", "invalid"),
        (
            "(-8) ** {a}",
            [0.5],
            "a negative number to a fractional power is a complex number",
            "invalid",
        ),
        ("{a} ** 16.375", [-(2**63)], "complex exponentiation", "invalid"),
        ("{a} ** -1.5", [-5e-324], "complex exponentiation", "invalid"),
        (
            "'%d' % {a}",
            [1],
            "text formatting with % is not part of the expression language",
            "type",
        ),
        ("mkflt({a}, 0)", [1.5], "required argument is not an integer", "type"),
        ("mkint32({a}, 0)", [65536], "'H' format requires 0 <= number <= 65535", "invalid"),
    ],
)
def test_what_has_no_value_fails_with_pythons_words_and_the_reason(
    text: str, values: list[float | str], message: str, reason: str
) -> None:
    with pytest.raises(ReparseError) as caught:
        Expression(text).evaluate(values)
    assert (caught.value.message, str(caught.value)) == (message, message)
    assert caught.value.reason is OperationFailedReason(reason)
    assert abs(caught.value.timestamp - time.time() * 1000) < 60_000
    assert isinstance(caught.value, OperationFailedError)


def test_an_integer_that_does_not_fit_is_an_error_and_never_another_value() -> None:
    product = Expression("{a}*{b}")
    assert product.evaluate([INT64_MAX, 1]) == INT64_MAX
    assert product.evaluate([-(2**62), 2]) == -(2**63)
    with pytest.raises(ReparseError, match="64 bits"):
        product.evaluate([2**62, 2])
    # On the way there is room for 127 bits.
    assert Expression("{a}*{b}//{b}").evaluate([INT64_MAX, INT64_MAX]) == INT64_MAX
    with pytest.raises(ReparseError, match="128 bits"):
        Expression("{a}*{b}*{b}//{b}//{b}").evaluate([INT64_MAX, INT64_MAX])


def test_values_have_to_be_numbers_or_texts_and_as_many_as_variables() -> None:
    expression = Expression("{a}+{b}")
    for values in ([1], [1, 2, 3], [1, None], [1, b"x"], [2**64, 1]):
        with pytest.raises(TypeError):
            expression.evaluate(values)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError):
        expression.evaluate(5)  # type: ignore[arg-type]  # that is the point


def test_errors_survive_pickling() -> None:
    error = ReparseError("division by zero", OperationFailedReason.INVALID, 12)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (again.message, again.reason, again.timestamp) == (
        "division by zero",
        OperationFailedReason.INVALID,
        12,
    )
    with pytest.raises(ReparseSyntaxError) as caught:
        Expression("1+")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (copy.message, copy.position, copy.caret) == (
        caught.value.message,
        caught.value.position,
        caught.value.caret,
    )


# --- The tables of the sensors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "curve", "scale"), [("kty81", KTY81, 1), ("pt1000", PT100, 10)]
)
def test_a_sensor_curve_gives_its_points_and_straight_lines_between_them(
    function: str, curve: dict[int, float], scale: int
) -> None:
    expression = Expression(f"{function}({{ohm}})")
    points = [(t, ohm * scale) for t, ohm in curve.items() if function != "kty81" or ohm < 3276]
    for celsius, ohms in points:
        assert expression(ohms) == pytest.approx(celsius, abs=1e-9)
    for (low, low_ohms), (high, high_ohms) in itertools.pairwise(points):
        for share in (0.001, 0.25, 0.5, 0.999):
            between = expression(low_ohms + share * (high_ohms - low_ohms))
            assert between == pytest.approx(low + share * (high - low), abs=1e-9)


def test_a_sensor_curve_ends_at_its_bounds() -> None:
    kty81, pt1000 = Expression("kty81({a})"), Expression("pt1000({a})")
    assert [kty81(ohm) for ohm in (-5, 0, 1136, 1136.0)] == [-40] * 4
    assert kty81(1137) > -40
    assert kty81(3275) == pytest.approx(90 + 10 * (3275 - 3182) / (3392 - 3182) + 10)
    assert [kty81(ohm) for ohm in (3276, 3392, 1e9, math.inf)] == [94.4] * 4
    assert [pt1000(ohm) for ohm in (-5, 0, 803, 803.1)] == [-50] * 4
    assert pt1000(803.2) > -50
    assert pt1000(1958.3) < 250
    assert [pt1000(ohm) for ohm in (1958.4, 1959, 1e9, math.inf)] == [250] * 4


def test_what_was_not_measured_is_no_temperature_and_no_pressure() -> None:
    for function in ("kty81", "pt1000", "huba505"):
        with pytest.raises(ReparseError, match="NaN"):
            Expression(f"{function}({{a}})")(math.nan)
        with pytest.raises(ReparseError) as caught:
            Expression(f"{function}({{a}})")("x")
        assert caught.value.reason is OperationFailedReason.TYPE


def test_registers_become_floats_and_integers_bit_for_bit() -> None:
    mkflt, mkint32 = Expression("mkflt({hi}, {lo})"), Expression("mkint32({hi}, {lo})")
    words = random.Random(3)
    for hi, lo in [(0, 0), (65535, 65535), (0x8000, 0), (0x7FFF, 0xFFFF)] + [
        (words.randrange(65536), words.randrange(65536)) for _ in range(2000)
    ]:
        raw = struct.pack(">HH", hi, lo)
        assert repr(mkflt(hi, lo)) == repr(struct.unpack("<f", raw)[0])
        assert mkint32(hi, lo) == struct.unpack(">i", raw)[0]


def test_the_other_functions_mean_what_their_table_says() -> None:
    for text, value in {
        "D(3, 5)": 2,
        "D(5, 3.5)": 1.5,
        "d(4, 5)": 0.25,
        "d(-4, 5)": 2.25,
        "ked(19.9, 50)": 0,
        "ked(20, 25)": 0.25,
        "negz(-3)": 0,
        "negz(3.5)": 3.5,
        "huba505(0.5)": 0,
        "huba505(0.4)": 0,
        "huba505(3.5)": 4.0,
    }.items():
        result = Expression(text).evaluate(())
        assert (type(result), result) == (type(value), value), text


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected an operand, found the end"),
        ("1 +", 3, "expected an operand, found the end"),
        ("1 2", 2, "expected the end, found a number"),
        ("(1", 2, "expected ')', found the end"),
        ("{W1", 0, "'{' was never closed"),
        ("1+{W1}}", 6, "unmatched '}'"),
        ("{}", 0, "there is no pathpoint between the braces"),
        ("żó", 0, "invalid character 'ż' (U+017C)"),
        ("'ż' + 1 $ 2", 8, "invalid character '$' (U+0024)"),
        ("'abc", 0, "the text was never closed"),
        (
            "'{W1}'",
            1,
            "a brace inside a text, where it would hold a pathpoint; "
            "'\\x7b' and '\\x7d' write braces",
        ),
        (
            "010",
            0,
            "leading zeros in decimal integer literals are not permitted; "
            "use an 0o prefix for octal integers",
        ),
        ("1__0", 2, "invalid decimal literal"),
        ("2j", 1, "a complex number is not part of the expression language"),
        ("min()", 0, "min expected at least 1 argument, got 0"),
        ("1 + D(1)", 4, "D expected 2 arguments, got 1"),
        ("max", 3, "expected '(', found the end"),
        ("'\\ud800'", 1, "invalid escape in a text"),
        (f"1+{2**128}", 2, "the integer does not fit 128 bits"),
    ],
)
def test_a_text_that_is_no_expression_is_refused_with_the_position(
    text: str, position: int, message: str
) -> None:
    with pytest.raises(ReparseSyntaxError) as caught:
        Expression(text)
    error = caught.value
    assert (error.message, error.position, error.text) == (message, position, text)
    assert str(error) == f"{message} (column {position + 1})"
    line, caret = error.caret.split("\n")
    assert caret == " " * (len(caret) - 1) + "^"
    assert line[len(caret) - 1 : len(caret)] == text[position : position + 1]
    assert isinstance(error, ValueError)
    assert isinstance(error, SMOKClientError)


def test_the_caret_stands_below_its_character_in_a_long_text_too() -> None:
    text = "{W1}+" * 300 + "$" + "+{W2}" * 300
    with pytest.raises(ReparseSyntaxError) as caught:
        Expression(text)
    line, caret = caught.value.caret.split("\n")
    assert line[len(caret) - 1] == "$"
    assert len(line) <= 60


ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    "''.__class__.__mro__[1].__subclasses__()[104].load_module('os')",
    "{W1}.__class__",
    "(1).__class__",
    "1 .__class__",
    "1..__class__",
    "''.format",
    "'{0.__class__}'.format(1)",
    "f'{__import__(1)}'",
    "F'{1}'",
    "rb'a'",
    "__import__('os').system('id')",
    "eval('1')",
    "exec('import os')",
    "open('/etc/passwd')",
    "globals()",
    "getattr({W1}, '__class__')",
    "type(1)",
    "print(1)",
    "breakpoint()",
    "__builtins__",
    "__debug__",
    "vars()",
    "os",
    "None",
    "...",
    "lambda: 1",
    "(lambda: 1)()",
    "[x for x in (1,)]",
    "{x for x in '1'}{",
    "(x for x in '1')",
    "[1, 2]",
    "(1, 2)",
    "()",
    "1, 2",
    "min((1, 2))",
    "min(*'ab')",
    "max(**{W1})",
    "max(1, 2, key=int)",
    "int(x='1')",
    "min(1, 2)(3)",
    "(min)(1, 2)",
    "min",
    "'a'(1)",
    "(x := 1)",
    "x = 1",
    "1; 2",
    "1 # 2",
    "1 \\\n + 2",
    "1 is 1",
    "1 is not 2",
    "1 @ 2",
    "1 <> 2",
    "`1`",
    "await {W1}",
    "(yield)",
    "assert 1",
    "import os",
    "del {W1}",
    "not",
    "1 not 2",
    "1 + not 2",
    "if 1 else 2",
    "1 if 2",
    "'a'[1, 2]",
    "'a'[...]",
    "'a'[]",
    "'\\N{DIGIT ONE}'",
    "'a\nb'",
    "'a' 'b\0'",
    "\0",
    "1\0",
    "１",
    "𝘮𝘢𝘹(1, 2)",
    "ｍax(1, 2)",
    "\ufeff1",
    "1\u00a0+ 1",
    "b'a'",
    "u''u'",
    "0b2",
    "0o8",
    "0x",
    "1e",
    "1_",
    "0_7",
    "1.e+",
    "99999999999999999999999999999999999999999",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_what_python_has_and_the_language_has_not_is_refused_when_parsed(text: str) -> None:
    with pytest.raises(ReparseSyntaxError) as caught:
        Expression(text)
    assert caught.value.message
    assert 0 <= caught.value.position <= len(text)
    assert caught.value.caret.endswith("^")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        Expression("'\ud800'")
    with pytest.raises(TypeError):
        Expression("{a}")("\ud800")


def test_nothing_in_the_package_can_run_a_text() -> None:
    """Neither eval, exec and compile, nor the modules that lead to them."""
    package = Path(smok_fast.__file__).parent
    files = sorted(package.rglob("*.py"))
    assert len(files) > 10
    functions = {"eval", "exec", "compile", "__import__", "__builtins__"}
    modules = {"ast", "code", "codeop", "builtins", "runpy"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Name(id=name):
                    assert name not in functions, (file, node.lineno)
                case ast.Import(names=names):
                    assert not modules & {alias.name for alias in names}, (file, node.lineno)
                case ast.ImportFrom(module=module):
                    assert module not in modules, (file, node.lineno)


def test_nothing_in_the_bindings_can_run_a_text() -> None:
    """Neither PyO3's functions for it nor CPython's, nor the modules that lead to them."""
    files = sorted((Path(__file__).parent.parent / "rust" / "python" / "src").glob("*.rs"))
    assert len(files) > 10
    ways = r"py\(?\)?\.(eval|run)\(|PyModule::from_code|py_run!|Py(Run|Eval)_|Py_Compile"
    modules = r'"(ast|code|codeop|builtins|runpy)"'
    for file in files:
        found = re.search(f"{ways}|{modules}", file.read_text("utf-8"))
        assert found is None, (file, found)


# --- Limits --------------------------------------------------------------------------------------


def test_length_and_nesting_are_limited() -> None:
    assert Expression("1+" * 2047 + "1").evaluate(()) == 2048
    for text, message in {
        "1+" * 2048 + "1": "longer than 4096 bytes",
        "ż" * 2049: "longer than 4096 bytes",
        "(" * 65 + "1" + ")" * 65: "nested deeper than 64 levels",
        "-" * 65 + "1": "nested deeper than 64 levels",
        "2" + "**2" * 65: "nested deeper than 64 levels",
        "not " * 65 + "1": "nested deeper than 64 levels",
        "int(" * 65: "nested deeper than 64 levels",
        "'a'" + "['a'" * 65: "nested deeper than 64 levels",
        "{" * 17 + "W1" + "}" * 17: "braces are nested deeper than 16 levels",
    }.items():
        with pytest.raises(ReparseSyntaxError, match=message):
            Expression(text)
    for text in ("(" * 64 + "1" + ")" * 64, "-" * 64 + "1", "1" + "**1" * 64):
        assert Expression(text).evaluate(()) == 1
    assert Expression("{" * 16 + "W1" + "}" * 16)(5) == 5
    # Long is not deep.
    assert Expression(" if 0 else ".join(["1"] * 300)).evaluate(()) == 1
    assert Expression(" or ".join(["0"] * 600)).evaluate(()) == 0
    assert Expression("<".join(map(str, range(900)))).evaluate(()) is True


HOSTILE = [
    "9**9**9**9",
    "2**(2**40)",
    "1<<(1<<40)",
    "'a'*10**9",
    "'a'*1000*1000",
    "('a'*60000+'a'*60000)",
    "+".join(["'a'*9000"] * 400),
    "*".join(["9"] * 2000),
    "+".join(["{u1}"] * 800),
    " in ".join(["{u1}"] * 500),
    "+".join(["int({u1})"] * 400),
    "+".join(["len"] * 900),
    "[".join(["'a'"] * 900),
    "{" * 4096,
    "(" * 4096,
    "-" * 4096,
    "'" * 4096,
    "9" * 4096,
    "0x" + "f" * 4094,
    "1" + "e1" * 2000,
    "_" * 4096,
    "1_" * 2048,
    " " * 4096,
    "{" + "a" * 4094 + "}",
    "{a}" * 1300,
    "max(" + ",".join(["{a}"] * 1000) + ")",
    "1 if 1 else " * 340 + "1",
    "1<" * 2000 + "1",
    "7/{a}+" * 680 + "1",
    "float('" + "9" * 4000 + "')",
    "int('" + "9" * 4000 + "')",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16])
def test_hostile_expressions_are_cheap(text: str) -> None:
    def spent() -> float:
        start = time.thread_time()
        try:
            expression = Expression(text)
            expression.evaluate(
                ["7" * 4000 if name == "u1" else 3 for name in expression.variables]
            )
        except (ReparseError, ReparseSyntaxError):
            pass
        return time.thread_time() - start

    # A limit of complexity, not of speed: an optimised build needs a tenth of it.
    assert min(spent() for _ in range(5)) < 0.02


def test_the_text_that_one_evaluation_handles_is_limited() -> None:
    assert Expression("{a}+'x'")("y" * 65_000) == "y" * 65_000 + "x"
    for text in ("{a}+{a}", "{a}*2", "{a} in {a}", "{a}[1:]", "{a}[0]", "min({a})", "{a}=={a}"):
        with pytest.raises(ReparseError, match="65536 bytes of text"):
            Expression(text)("y" * 65_537)


#: Its digits are so near the middle between two floats that a few multiplications do not tell.
NEAR_THE_MIDDLE = "13319534487643999404e268"


def test_the_floats_that_are_read_slowly_are_limited() -> None:
    value = float(NEAR_THE_MIDDLE)
    assert Expression(f"max({','.join([NEAR_THE_MIDDLE] * 32)})")() == value
    with pytest.raises(ReparseSyntaxError, match="more than 32 floats") as caught:
        Expression(f"max({','.join([NEAR_THE_MIDDLE] * 33)})")
    assert caught.value.position == len("max(") + 32 * len(NEAR_THE_MIDDLE + ",")
    shortest = "+".join(["1.2345678901234567e-05"] * 100)
    assert Expression(shortest)() == pytest.approx(1.2345678901234567e-03)
    padded = "+".join(["float({u1})"] * 100)
    assert Expression(padded)(" 00000000000000000001.5e-000000000000000000 ") == 150
    for text in ("{u1}", "{a}*'" + NEAR_THE_MIDDLE + "'"):
        conversions = [f"float({text})"] * 30
        values = {"{u1}": [NEAR_THE_MIDDLE]}.get(text, [1])
        assert Expression(f"max({','.join(conversions)})")(*values) == value
        with pytest.raises(ReparseError, match="65536 bytes of text"):
            Expression(f"max({','.join(conversions + conversions[:2])})")(*values)


def test_the_expressions_inside_an_expression_are_limited() -> None:
    braces = [f"{{rW{number}}}" for number in range(64)]
    assert len(Expression("+".join(braces)).variables) == 64
    with pytest.raises(ReparseSyntaxError, match="more than 64 reparse pathpoints") as caught:
        Expression("+".join([*braces, "{rW64}"]))
    assert caught.value.position == len("+".join(braces)) + len("+")
    assert len(Expression("+".join(["{rW{W1}}"] * 400)).variables) == 1
    with pytest.raises(ReparseSyntaxError, match="more than 64 reparse pathpoints"):
        Expression(f"{{rW{'+'.join(braces)}}}")
    assert len(Expression("+".join(f"{{W1r{number}}}" for number in range(300))).variables) == 300


@pytest.mark.parametrize(
    "letter", "\xa0\xad\u0378\u200b\u2028\u202e\ue000\U000e0001\x7f\x9b\te\u0301ż漢"
)
def test_messages_show_letters_as_python_does(letter: str) -> None:
    with pytest.raises(ValueError, match="invalid literal") as expected:
        int(f"x{letter}\u0301")
    with pytest.raises(ReparseError) as caught:
        Expression("int({a})")(f"x{letter}\u0301")
    assert caught.value.message == str(expected.value)


def test_what_a_terminal_would_obey_is_neither_in_the_tree_nor_above_the_caret() -> None:
    expression = Expression("{W1\x1b[31m\n\u2028}+'\u202e'")
    assert expression.explain().split("\n") == [
        "+",
        r"  {W1\x1b[31m\n\u2028}",
        r"  '\u202e'",
    ]
    with pytest.raises(ReparseSyntaxError) as caught:
        Expression("1\u2028+'\u2029\x85'+")
    assert caught.value.caret == "1 +'  '+\n ^"


# --- Series --------------------------------------------------------------------------------------


def series(text: str, *columns: tuple[object, object]) -> tuple[list[int], list[object]]:
    timestamps, results = Expression(text).evaluate_series(columns)  # type: ignore[arg-type]  # any
    return list(timestamps), list(results)


def test_a_series_has_a_value_at_each_new_timestamp_with_the_latest_of_the_others() -> None:
    assert series("{a}*10+{b}", ([1, 3, 5, 9], [1, 2, 3, 4]), ([3, 4, 9], [1, 2, 3])) == (
        [3, 4, 5, 9],
        [21, 22, 32, 43],
    )
    assert series("{a}", ([1, 2], [1, 2])) == ([1, 2], [1, 2])


def test_a_series_begins_when_every_pathpoint_has_a_sample() -> None:
    assert series("{a}+{b}", ([1, 2, 3], [1, 2, 3]), ([10], [10])) == ([10], [13])
    assert series("{a}+{b}", ([1, 2, 3], [1, 2, 3]), ([], [])) == ([], [])
    assert series("1+1") == ([], [])


def test_of_samples_with_one_timestamp_the_last_one_counts() -> None:
    assert series("{a}+{b}", ([1, 1, 2], [1, 5, 7]), ([0, 2, 2], [0, 10, 20])) == ([1, 2], [5, 27])
    times = sorted([*range(5000), 1023, 1024, 2047, 4999])
    values = list(range(len(times)))
    latest = dict(zip(times, values, strict=True))
    assert series("{a}+{b}", (times, values), (times, values)) == (
        list(latest),
        [2 * value for value in latest.values()],
    )


def test_a_failed_read_fails_the_rows_that_it_is_part_of() -> None:
    failure = OperationFailedError(OperationFailedReason.MALFORMED, 2)
    timestamps, results = series(
        "{a} if {b} else 0", ([1, 2, 3], [1, failure, 3]), ([1, 4, 5], [0, 1, failure])
    )
    assert timestamps == [1, 2, 3, 4, 5]
    reasons = [
        result.reason if isinstance(result, OperationFailedError) else result for result in results
    ]
    malformed = OperationFailedReason.MALFORMED
    assert reasons == [0, malformed, 0, 3, malformed]
    assert [results[1].timestamp, results[4].timestamp] == [2, 5]
    assert not isinstance(results[1], ReparseError)


def test_a_series_keeps_booleans() -> None:
    values = [True, 1, False, 2.5]
    assert series("str({a})", (range(4), values))[1] == ["True", "1", "False", "2.5"]
    results = series("{a} and {b}", (range(4), values), (range(4), [True] * 4))[1]
    assert list(map(repr, results)) == ["True", "True", "False", "True"]


def test_the_texts_of_a_series_are_bounded() -> None:
    rows = 1200
    _, results = series("'a'*(60000+0*{a})", (range(rows), range(rows)))
    fitting = 64 * 1024 * 1024 // 60_000
    assert results[:fitting] == ["a" * 60_000] * fitting
    assert len(results) == rows
    for result in results[fitting:]:
        assert isinstance(result, ReparseError)
        assert "67108864 bytes" in result.message


def test_a_row_without_a_value_fails_alone() -> None:
    timestamps, results = series("1/{a}", (range(4000), [value % 1000 for value in range(4000)]))
    assert timestamps == list(range(4000))
    for value, result in enumerate(results):
        if value % 1000:
            assert result == 1 / (value % 1000)
        else:
            assert isinstance(result, ReparseError)
            assert (result.message, result.timestamp) == ("division by zero", value)


def test_numbers_of_one_type_come_and_go_in_buffers() -> None:
    timestamps = array("q", range(3000))
    whole, real = array("q", range(3000)), array("d", [n / 2 for n in range(3000)])
    expression = Expression("{a}+{b}")
    times, ints = expression.evaluate_series([(timestamps, whole), (timestamps, whole)])
    assert isinstance(ints, memoryview)
    assert (times.format, ints.format) == ("q", "q")
    assert (times.tolist(), ints.tolist()) == (list(range(3000)), list(range(0, 6000, 2)))
    _, floats = expression.evaluate_series([(timestamps, whole), (timestamps, real)])
    assert isinstance(floats, memoryview)
    assert floats.format == "d"
    assert floats.tolist() == [n * 1.5 for n in range(3000)]
    _, mixed = Expression("{a} if {a} < 5 else {b}").evaluate_series(
        [(timestamps, whole), (timestamps, real)]
    )
    assert mixed == [n if n < 5 else n / 2 for n in range(3000)]
    assert [type(value) for value in mixed[4:6]] == [int, float]
    _, texts = Expression("str({a})").evaluate_series([(timestamps, whole)])
    assert texts == [str(n) for n in range(3000)]


def joined(*columns: tuple[Iterable[int], Iterable[float]]) -> dict[int, list[float]]:
    """For each row its timestamp and the latest values, by the definition of rows."""
    samples = [dict(zip(*column, strict=True)) for column in columns]
    latest: list[float | None] = [None] * len(columns)
    rows = {}
    for timestamp in sorted({at for column in samples for at in column}):
        latest = [column.get(timestamp, old) for column, old in zip(samples, latest, strict=True)]
        if None not in latest:
            rows[timestamp] = [value for value in latest if value is not None]
    return rows


def test_long_series_are_read_piece_by_piece_without_a_seam() -> None:
    chance = random.Random(1)

    def times(count: int, steps: Sequence[int], start: int = 0) -> array[int]:
        return array("q", itertools.accumulate(chance.choices(steps, k=count), initial=start))

    fast, slow, late = times(50_000, (0, 1, 2)), times(900, (30, 70)), times(20_000, (1,), 30_000)
    halves = array("d", [index / 2 for index in range(len(fast))])
    whole = array("q", range(len(slow)))
    plain = [index % 7 for index in range(len(late))]
    columns = [(fast, halves), (slow, whole), (late, plain)]
    for text, count in [("{a}*2", 1), ("{a}*4-{b}", 2), ("{a}*4-{b}*3+{c}", 3)]:
        expression = Expression(text)
        rows = joined(*columns[:count])
        wanted = [expression.evaluate(values) for values in rows.values()]
        timestamps, results = expression.evaluate_series(columns[:count])
        assert isinstance(results, memoryview)
        assert timestamps.tolist() == list(rows)
        assert results.tolist() == wanted
    repeated = array("q", [5] * 40_000)
    assert series("{a}+{b}", (repeated, array("q", range(40_000))), ([4, 6], [0, 1])) == (
        [5, 6],
        [39_999, 40_000],
    )


def test_timestamps_that_fall_anywhere_in_a_long_series_are_refused() -> None:
    for place in (1, 16_383, 16_384, 16_385, 39_999):
        timestamps = array("q", range(1, 40_001))
        timestamps[place] = 0
        with pytest.raises(ValueError, match="timestamps of column 0 fall"):
            Expression("{a}").evaluate_series([(timestamps, timestamps)])


def test_buffers_of_any_shape_are_read() -> None:
    numbers = array("q", range(60_000))
    every_second = memoryview(numbers)[::2]
    timestamps, results = Expression("{a}+{b}").evaluate_series(
        [(every_second, every_second), (numbers[::2], memoryview(numbers)[::-2])]
    )
    assert timestamps.tolist() == list(range(0, 60_000, 2))
    assert isinstance(results, memoryview)
    assert results.tolist() == [59_999] * 30_000
    square = memoryview(array("q", [1, 2, 3, 4]).tobytes()).cast("q", shape=[2, 2])
    assert series("{a}", (square, square)) == ([1, 2, 3, 4], [1, 2, 3, 4])


def test_what_a_series_gives_cannot_be_written_and_lives_by_itself() -> None:
    timestamps, results = Expression("{a}*2.0").evaluate_series([([1, 2], [3, 4])])
    assert isinstance(results, memoryview)
    assert (timestamps.readonly, results.readonly) == (True, True)
    with pytest.raises(TypeError):
        results[0] = 1.0
    with pytest.raises(TypeError, match="read-write"):
        io.BytesIO(bytes(16)).readinto(results.obj)
    del timestamps
    gc.collect()
    assert results.tolist() == [6.0, 8.0]
    assert (results.nbytes, bytes(results)) == (16, array("d", [6.0, 8.0]).tobytes())
    empty, _ = Expression("{a}").evaluate_series([([], [])])
    assert empty.tolist() == []


def test_a_constant_branch_of_a_series_is_numbers_as_well() -> None:
    timestamps = array("q", range(3000))
    for text, wanted in [
        ("5 if True else {a}", [5] * 3000),
        ("0.5 if True else {a}", [0.5] * 3000),
        ("7 if {a} < 5 else 8", [7] * 5 + [8] * 2995),
        ("max(1, 2, 3) + {a}", list(range(3, 3003))),
        ("max(2, {a}, 1)", [2, 2, *range(2, 3000)]),
    ]:
        _, results = Expression(text).evaluate_series([(timestamps, timestamps)])
        assert isinstance(results, memoryview)
        assert results.tolist() == wanted
    _, failures = Expression("1/0 + {a}").evaluate_series([(timestamps, timestamps)])
    assert {str(failure) for failure in failures} == {"division by zero"}


def test_an_overflow_in_a_column_is_settled_row_by_row() -> None:
    big = [2**62, 5, INT64_MAX, 2**62 - 1]
    _, results = series("{a}+{a}", (range(4), array("q", big)))
    assert [result for result in results if not isinstance(result, ReparseError)] == [10, 2**63 - 2]
    assert series("({a}+{a})//2", (range(4), array("q", big)))[1] == big
    assert series("{a} < 9007199254740992.0", (range(2), array("q", [2**53, 2**53 + 1])))[1] == [
        False,
        False,
    ]


@pytest.mark.parametrize("letter", PathpointType)
def test_a_series_of_a_pathpoint_has_values_of_its_type(letter: PathpointType) -> None:
    numbers: list[float | str] = [0, 1, -1, 70_000, -70_000, 2.9, -0.5, 1e10, math.nan, math.inf]
    for values in (numbers, array("q", [5, -5, 2**62]), array("d", [1.5, 1e300]), ["12", "x", 7]):
        columns = [(range(len(values)), values)]
        for text in ("{a}", "{a} if {a} != 1 else 'one'", "{a} == {a}"):
            timestamps, results = Expression(text).evaluate_series(columns, letter.value)
            assert list(timestamps) == list(range(len(values)))
            for value, result in zip(values, results, strict=True):
                try:
                    wanted = to_type(Expression(text)(value), letter)
                except ValueError:
                    assert isinstance(result, ReparseError)
                else:
                    assert (type(result), repr(result)) == (type(wanted), repr(wanted))
    with pytest.raises(ValueError, match="no type letter"):
        Expression("1").evaluate_series([], "x")


def test_a_series_of_numbers_of_one_type_letter_comes_in_a_buffer() -> None:
    timestamps = array("q", range(3000))
    columns = [(timestamps, array("d", [n / 2 for n in range(3000)])), (timestamps, timestamps)]
    expression = Expression("{a} if {b} % 3 else 0")
    _, floats = expression.evaluate_series(columns, "f")
    assert isinstance(floats, memoryview)
    assert floats.tolist() == [n / 2 if n % 3 else 0.0 for n in range(3000)]
    _, words = expression.evaluate_series(columns, "W")
    assert isinstance(words, memoryview)
    assert words.tolist() == [n // 2 if n % 3 else 0 for n in range(3000)]


def test_many_pathpoints_and_deep_conditions_fit_into_a_series() -> None:
    names = [f"W{n}" for n in range(400)]
    text = "+".join(f"{{{name}}}" for name in names)
    columns = [(range(n % 3, 50, 1 + n % 2), range(n % 3, 50, 1 + n % 2)) for n in range(400)]
    timestamps, results = series(text, *columns)
    assert timestamps == list(range(2, 50))
    assert results[0] == 2 * 400 - sum(1 for n in range(400) if n % 3 == 1 and n % 2)
    chain = "".join(f"{n} if {{a}} < {n} else " for n in range(1, 150)) + "0"
    assert series(chain, (range(200), array("q", range(200))))[1] == [
        *range(1, 150),
        *[0] * 51,
    ]


def test_columns_that_do_not_fit_are_refused() -> None:
    for columns, error in [
        ([([1], [1])], ValueError),
        ([([1], [1]), ([1], [1]), ([1], [1])], ValueError),
        ([([1, 2], [1]), ([1], [1])], ValueError),
        ([([2, 1], [1, 2]), ([1], [1])], ValueError),
        ([([1], [None]), ([1], [1])], TypeError),
        ([(["x"], [1]), ([1], [1])], TypeError),
        ([1, 2], TypeError),
    ]:
        with pytest.raises(error):
            Expression("{a}+{b}").evaluate_series(columns)  # type: ignore[arg-type]  # the point


def test_threads_evaluate_one_expression_at_once() -> None:
    expression = Expression("max({a}, {b}) + str({a})[0:1] * 0 if {b} < 0 else {a} * {b}")
    wrong: list[object] = []

    def work(offset: int) -> None:
        for n in range(offset, offset + 3000):
            if expression(n, n + 1) != n * (n + 1):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(start * 10_000,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


# --- Helpers -------------------------------------------------------------------------------------


def test_explain_shows_the_tree_of_the_text() -> None:
    assert Expression("max({W1},2**3) < -{W2} <= 5 if {B1} else 'a'[1:]").explain().split("\n") == [
        "if, then, else",
        "  {B1}",
        "  and",
        "    <",
        "      max()",
        "        {W1}",
        "        **",
        "          2",
        "          3",
        "      -",
        "        {W2}",
        "    <=",
        "      (the same)",
        "      5",
        "  [start:]",
        "    'a'",
        "    1",
    ]
    for length in range(1, 600):  # whatever room is left for the last line
        tree = Expression(f"max({{W{'1' * length}}}," + "1+" * 1700 + "1)").explain()
        assert len(tree.encode()) <= 65_536
        assert tree.endswith("…")


def test_parse_gives_the_expression_and_the_names() -> None:
    expression, paths = parse("{W1}+12+{W2}")
    assert paths == ["W1", "W2"]
    assert expression.evaluate([1, 2]) == 15
    with pytest.raises(ValueError, match="was never closed"):
        parse("{W1")


def test_a_reparse_pathpoint_breaks_down_to_native_ones() -> None:
    assert reparse_to_native_components("W1r1") == ["W1r1"]
    assert reparse_to_native_components("rW{W1}+{rf{f2}*{W1}}+{rW{rW{u3}}}") == ["W1", "f2", "u3"]
    assert reparse_to_native_components("rW5") == []
    with pytest.raises(ReparseSyntaxError):
        reparse_to_native_components("rW{rW{W1}+}")
    for name in ("r", "rq{W1}", "rW{rq{W1}}"):
        with pytest.raises(ValueError, match="declares no type"):
            reparse_to_native_components(name)
