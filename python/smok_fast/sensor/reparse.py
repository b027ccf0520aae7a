r"""Expressions over pathpoints, as in the name of a reparse pathpoint:
``rf2*({f1r10}-{f1r12}/10)``.

After the ``r`` and the type letter follows the expression. Braces hold the names of pathpoints,
which may be reparse ones, so braces nest; the same pathpoint twice is read once. The rest is
Python's expression syntax, with Python's precedence, types and results:

- literals: integers and floats in all their forms, texts, ``True`` and ``False``
- ``+ - * / // % **``, ``& | ^ ~ << >>``, comparisons (also chained), ``in``, ``not in``
- ``and or not``, ``a if b else c``: only what is needed is evaluated
- indices and slices of texts, parentheses
- calls of the functions below, with positional arguments

========================= ==========================================================================
``min(…)``, ``max(…)``    as in Python, as are ``int``, ``float``, ``str`` and ``bool``
``D(real, ref)``          ``abs(ref - real)``
``d(real, ref)``          ``abs(D(real, ref) / real)``
``ked(real, ref)``        0 if ``real < 20``, else ``d(real, ref)``
``negz(x)``               0 if ``x < 0``, else ``x``
``huba505(v)``            bar of a HUBA 505 pressure sensor: ``4 * (v - 0.5) / 3``, not below 0
``mkint32(hi, lo)``       two 16-bit words, big endian, as a signed 32-bit integer
``mkflt(hi, lo)``         the four bytes of ``hi`` and ``lo``, big endian each, read as a *little*
                          endian single (deployed devices rely on it)
``kty81(ohm)``            °C of a KTY81 sensor, linear between the points of its table
``pt1000(ohm)``           °C of a PT1000 sensor, linear between the points of its table
========================= ==========================================================================

There is nothing else: no names, attributes, keyword arguments, containers or statements, so an
expression from the network can do nothing but compute. Nor can it compute for long: it is at most
4096 bytes long, nested at most 64 levels deep (braces 16, with at most 64 reparse pathpoints in
them), and one evaluation handles at most 64 KiB of text; for the present value of a pathpoint that
of the reparse pathpoints in it is included. A float of more than 19 digits is read slowly: 32 may
stand in an expression, and reading one from a text counts as 2 KiB. Integers are exact on the way
as long as they fit 128 bits with their sign, and have to fit 64 bits at the end.

What Python can and this language cannot is an error, never another value: larger integers, complex
results, ``%`` with a text on its left, ``is``, ``None``, lone surrogates, ``'\N{…}'``, line breaks
inside a text, comments, backslashes at the end of a line, functions that are not called at once,
digits other than ASCII in ``int()`` and ``float()``. A brace inside a text is written ``'\x7b'``.
Line breaks between the parts of an expression are spaces. NaN makes ``kty81``, ``pt1000`` and
``huba505`` fail: what was not measured is no temperature and no pressure.
"""

from __future__ import annotations

from smok_fast._core import Expression
from smok_fast.exceptions import ReparseError, ReparseSyntaxError
from smok_fast.pathpoint.typing import PathpointType

__all__ = [
    "Expression",
    "ReparseError",
    "ReparseSyntaxError",
    "parse",
    "reparse_to_native_components",
]


def parse(invocation: str) -> tuple[Expression, list[str]]:
    """Compile an expression.

    :param invocation: the name of a reparse pathpoint without the ``r`` and the type letter
    :return: the expression, and the names of the pathpoints that it reads, each once, in the order
        in which :meth:`Expression.evaluate` takes their values
    :raises ReparseSyntaxError: it is no expression; a :class:`ValueError`
    """
    expression = Expression(invocation)
    return expression, list(expression.variables)


def reparse_to_native_components(path: str) -> list[str]:
    """The native pathpoints that a pathpoint is made of, as deep as its expressions nest.

    :param path: name of a pathpoint
    :return: names of native pathpoints, each once, in the order in which they appear; the pathpoint
        itself if it is native
    :raises ReparseSyntaxError: an expression in it is wrong; a :class:`ValueError`
    :raises ValueError: a reparse pathpoint's name declares no type
    """
    if not path.startswith("r"):
        return [path]
    PathpointType.get_type(path)
    found: dict[str, None] = {}
    for constituent in Expression(path[2:]).variables:
        found.update(dict.fromkeys(reparse_to_native_components(constituent)))
    return list(found)
