"""What CPython makes of an expression, for comparison.

:func:`expected` walks the syntax tree of the expression with Python's own operators, so that it can
stop before an expression would take all memory and can tell which limit it hits. What comes out of
the walk within the limits is then computed once more by ``eval``.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
import struct
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Value = int | float | str | bool

#: What one evaluation may handle of text, in bytes.
MAX_TEXT = 65_536

BINARY: dict[type[ast.operator], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
UNARY: dict[type[ast.unaryop], Callable[..., object]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
COMPARISONS: dict[type[ast.cmpop], Callable[..., object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def deviation(real, ref):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    return abs(ref - real)


def relative_deviation(real, ref):  # type: ignore[no-untyped-def]  # takes what it is given
    return abs(deviation(real, ref) / real)


def ked(real, ref):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    return 0 if real < 20 else relative_deviation(real, ref)


def negz(x):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    return 0 if x < 0 else x


def huba505(volts):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    pressure = 4 * (volts - 0.5) / 3
    if math.isnan(pressure):
        raise ValueError("cannot convert float NaN to a pressure")
    return pressure if pressure > 0 else 0


def mkint32(hi, lo):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    return struct.unpack(">i", struct.pack(">HH", hi, lo))[0]


def mkflt(hi, lo):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    return struct.unpack("<f", struct.pack(">HH", hi, lo))[0]


KTY81 = {
    -40: 1136, -20: 1250, -10: 1372, 0: 1500, 10: 1634, 20: 1774, 25: 1922, 30: 2000, 40: 2078,
    50: 2240, 60: 2410, 70: 2590, 80: 2780, 90: 2978, 100: 3182, 110: 3392,
}  # fmt: skip
PT100 = dict(
    zip(
        [*range(-50, 115, 5), 150, 200, 250],
        [
            80.31, 82.29, 84.27, 86.25, 88.22, 90.19, 92.16, 94.12, 96.09, 98.04, 100.0, 101.95,
            103.9, 105.85, 107.79, 109.73, 111.67, 113.61, 115.54, 117.47, 119.4, 121.32, 123.24,
            125.16, 127.07, 128.98, 130.89, 132.8, 134.7, 136.6, 138.5, 140.39, 142.29, 157.31,
            175.84, 195.84,
        ],
        strict=True,
    )
)  # fmt: skip


def on_curve(curve: Mapping[int, float], ohms: float) -> float:
    points = list(curve.items())
    for (low, low_ohms), (high, high_ohms) in itertools.pairwise(points):
        if low_ohms <= ohms < high_ohms:
            return low + (ohms - low_ohms) * (high - low) / (high_ohms - low_ohms)
    raise AssertionError(ohms)


def kty81(ohms):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    if ohms <= 1136:
        return -40
    if ohms >= 3276:
        return 94.4
    if math.isnan(ohms):
        raise ValueError("cannot convert float NaN to a temperature")
    return on_curve(KTY81, ohms)


def pt1000(ohms):  # type: ignore[no-untyped-def]  # takes what the expression gives it
    tenth = ohms / 10.0
    if math.isnan(tenth):
        raise ValueError("cannot convert float NaN to a temperature")
    if tenth <= 80.31:
        return -50
    if tenth >= 195.84:
        return 250
    return on_curve(PT100, tenth)


#: Every function with the numbers of arguments that it takes.
FUNCTIONS: dict[str, tuple[Callable[..., object], range]] = {
    "min": (min, range(1, 1000)),
    "max": (max, range(1, 1000)),
    "int": (int, range(3)),
    "float": (float, range(2)),
    "str": (str, range(2)),
    "bool": (bool, range(2)),
    "D": (deviation, range(2, 3)),
    "d": (relative_deviation, range(2, 3)),
    "ked": (ked, range(2, 3)),
    "negz": (negz, range(1, 2)),
    "huba505": (huba505, range(1, 2)),
    "mkint32": (mkint32, range(2, 3)),
    "mkflt": (mkflt, range(2, 3)),
    "kty81": (kty81, range(1, 2)),
    "pt1000": (pt1000, range(1, 2)),
}


@dataclass
class Failed:
    """CPython fails as well, with this."""

    error: Exception


class TooLarge(Exception):
    """A value on the way is larger than the language allows, or is none of its values."""


class Walk:
    """Evaluates a syntax tree within the limits of the language."""

    def __init__(self, variables: Mapping[str, Value]) -> None:
        self.variables = variables
        self.text = 0

    def check(self, *values: object) -> None:
        """Counts what the values hold of text.

        :raises TooLarge: they are beyond a limit
        """
        for value in values:
            if isinstance(value, str):
                self.text += len(value.encode(errors="surrogatepass"))
            elif isinstance(value, int):
                if not -(2**127) <= value < 2**127:
                    raise TooLarge(f"{value.bit_length()} bits")
            elif not isinstance(value, float):
                raise TooLarge(repr(value))  # a complex number

    def evaluate(self, node: ast.expr) -> object:
        match node:
            case ast.Constant():
                result = node.value
            case ast.Name():
                return self.variables[node.id]
            case ast.UnaryOp():
                result = UNARY[type(node.op)](self.evaluate(node.operand))
            case ast.BinOp():
                result = self.binary(node)
            case ast.BoolOp():
                wanted = isinstance(node.op, ast.Or)
                for operand in node.values:
                    result = self.evaluate(operand)
                    if bool(result) is wanted:
                        return result
                return result
            case ast.IfExp():
                return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)
            case ast.Compare():
                left = self.evaluate(node.left)
                for op, comparator in zip(node.ops, node.comparators, strict=True):
                    right = self.evaluate(comparator)
                    self.check(left, right)
                    result = COMPARISONS[type(op)](left, right)
                    if not result:
                        break
                    left = right
            case ast.Call(func=ast.Name(id=name)):
                arguments = [self.evaluate(argument) for argument in node.args]
                self.check(*arguments)
                self.check(*arguments)  # min and max look at most of them twice
                if any(
                    letter.isdecimal() and not letter.isascii()
                    for argument in arguments
                    if isinstance(argument, str) and name in ("int", "float")
                    for letter in argument
                ):
                    raise TooLarge("digits that are not ASCII")
                result = FUNCTIONS[name][0](*arguments)
            case ast.Subscript():
                result = self.subscript(node)
            case _:
                raise AssertionError(ast.dump(node))
        self.check(result)
        return result

    def binary(self, node: ast.BinOp) -> object:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        self.check(left, right)
        match node.op, left, right:
            case ast.Mod(), str(), _:
                raise TooLarge("text formatting")
            case ast.Mult(), str(), int():
                if len(left.encode()) * right > MAX_TEXT:
                    raise TooLarge("text")
            case ast.Mult(), int(), str():
                if left * len(right.encode()) > MAX_TEXT:
                    raise TooLarge("text")
            case ast.Pow(), int(), int():
                if right > 0 and abs(left) > 1 and left.bit_length() * right > 1000:
                    raise TooLarge("power")
            case ast.LShift(), int(), int():
                if left and right > 200:
                    raise TooLarge("shift")
        return BINARY[type(node.op)](left, right)

    def subscript(self, node: ast.Subscript) -> object:
        whole = self.evaluate(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            index: object = slice(*(part and self.evaluate(part) for part in parts))
        else:
            index = self.evaluate(node.slice)
        self.check(whole)
        return whole[index]  # type: ignore[index]  # fails as Python does


def to_python(text: str) -> str:
    """The expression with its pathpoints, whose names are identifiers, as variables."""
    return text.replace("{", " ").replace("}", " ").strip(" \t\n")


def expected(text: str, variables: Mapping[str, Value]) -> Value | Failed | TooLarge:
    """What CPython makes of an expression that this language has as well.

    :param text: the expression
    :param variables: values of the pathpoints
    :return: the result, CPython's error, or which limit it exceeds
    """
    source = to_python(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CPython warns of what it finds odd, as `1if 2else 3`
        tree = ast.parse(source, mode="eval")
        walk = Walk(variables)
        try:
            walked = walk.evaluate(tree.body)
        except TooLarge as error:
            return error
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            return TooLarge("text") if walk.text > MAX_TEXT else Failed(error)
        functions = {name: function for name, (function, _) in FUNCTIONS.items()}
        result: Value = eval(  # noqa: S307 - CPython's eval is the oracle
            compile(tree, "expression", "eval"), {"__builtins__": {}} | functions, dict(variables)
        )
    assert repr(result) == repr(walked)
    assert type(result) is type(walked)
    if walk.text > MAX_TEXT:
        return TooLarge("text")
    if isinstance(result, int) and not -(2**63) <= result < 2**63:
        return TooLarge("result")
    return result


ALLOWED = (
    ast.BinOp, ast.BoolOp, ast.Compare, ast.Constant, ast.IfExp, ast.UnaryOp, ast.Expression,
    ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context,
)  # fmt: skip


def in_language(text: str, names: Collection[str]) -> bool:
    """Whether CPython parses an expression, and nothing is in it that this language has not.

    :param text: the expression
    :param names: names of pathpoints
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(to_python(text), mode="eval")
        except (SyntaxError, ValueError):
            return False
    nodes = list(ast.walk(tree))
    if text.count("{") != sum(isinstance(node, ast.Name) and node.id in names for node in nodes):
        return False  # a pathpoint in the middle of a text
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        match node:
            case ast.Is() | ast.IsNot() | ast.MatMult():
                return False
            case ast.Constant(value=value):
                if not isinstance(value, int | float | str):
                    return False
            case ast.Name(id=name):
                if name not in (FUNCTIONS if id(node) in called else names):
                    return False
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                if name not in FUNCTIONS or len(node.args) not in FUNCTIONS[name][1]:
                    return False
            case ast.Subscript(slice=ast.Slice()) | ast.Slice() | ast.Subscript():
                pass
            case _ if not isinstance(node, ALLOWED):
                return False
    return True
