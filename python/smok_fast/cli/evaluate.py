"""``smok-fast eval``: what a reparse expression gives for values of its pathpoints."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.cells import cell_len

from smok_fast.cli.console import console, error_console, fail, printable
from smok_fast.exceptions import OperationFailedError, ReparseSyntaxError
from smok_fast.pathpoint import PathpointType, PathpointValueType, to_type
from smok_fast.sensor.reparse import Expression

__all__ = ["evaluate"]


def evaluate(
    pathpoint: Annotated[
        str, typer.Argument(help="Name of a reparse pathpoint, such as 'rW{W1r1}+1'.")
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Values of the pathpoints in its braces."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the parsed expression and its pathpoints.")
    ] = False,
) -> None:
    """Evaluate a reparse pathpoint's expression.

    For example:

    [bold]smok-fast eval 'rf({f1r10}-{f1r12})/10' f1r10=615 f1r12=482[/]
    """
    if not pathpoint.startswith("r"):
        fail("a reparse pathpoint starts with r and the letter of its type, such as rW{W1r1}+1")
    try:
        expressions = _parse(pathpoint)
        given = _assignments(values or [], expressions)
        expression = expressions[pathpoint]
        if explain and expression is not None:
            for line in expression.explain().split("\n"):
                console.print(printable(line), markup=False, soft_wrap=True)
            variables = printable(", ".join(expression.variables) or "none")
            console.print("pathpoints:", variables, markup=False, soft_wrap=True)
            if expression.variables and not given:
                return
        value = _value_of(pathpoint, expressions, given)
        console.print(printable(value), markup=False, soft_wrap=True)
    except (OperationFailedError, ValueError) as error:
        fail(error)


def _parse(pathpoint: str) -> dict[str, Expression | None]:
    """The pathpoint, and then all that it is computed from, at any depth, with their expressions:
    native ones have none.
    """
    expressions: dict[str, Expression | None] = {}
    pending = [pathpoint]
    while pending:
        name = pending.pop()
        if name in expressions:
            continue
        PathpointType.get_type(name)
        if not name.startswith("r"):
            expressions[name] = None
            continue
        try:
            expressions[name] = expression = Expression(name[2:])
        except ReparseSyntaxError as error:
            _show_caret(error, name[:2])
            fail(f"{error.message} (column {error.position + 3})")
        pending += reversed(expression.variables)
    return expressions


def _show_caret(error: ReparseSyntaxError, beginning: str) -> None:
    text, caret = error.caret.rsplit("\n", 1)
    before = len(caret) - 1
    first = error.position - before
    if first > 0:  # it is too long to be shown whole
        beginning = "… "
    end = " …" if first + len(text) < len(error.text) else ""
    margin = cell_len(printable(beginning + text[:before]))
    error_console.print(printable(beginning + text + end), markup=False, soft_wrap=True)
    error_console.print(" " * margin + "^", markup=False, soft_wrap=True)


def _assignments(
    texts: list[str], expressions: dict[str, Expression | None]
) -> dict[str, PathpointValueType]:
    """What the arguments say. A name that is an expression may hold '=', as may a text."""
    given: dict[str, PathpointValueType] = {}
    inner = list(expressions)[1:]
    for text in texts:
        matching = [name for name in inner if text.startswith(f"{name}=")]
        name = max(matching, key=len, default=None)
        if name is None:
            wanted = ", ".join(name for name in inner if expressions[name] is None) or "none"
            fail(f"{text} is no NAME=VALUE for a pathpoint of the expression: it has {wanted}")
        if name in given:
            fail(f"{name} is given twice")
        given[name] = _parse_value(name, text[len(name) + 1 :])
    return given


def _parse_value(name: str, text: str) -> PathpointValueType:
    """A value as a pathpoint would hold it: a native one keeps numbers as they are."""
    kind = PathpointType.get_type(name)
    if kind is PathpointType.u:
        try:
            text.encode()
        except UnicodeEncodeError:
            fail(f"{name}={text}: {name} takes a text in UTF-8")
        return text
    number: int | float
    try:
        number = int(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            fail(f"{name}={text}: {name} takes a number")
    fits = -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)
    if not fits:
        fail(f"{name}={text}: {name} takes a finite number, an integer of up to 64 bits")
    return to_type(number, kind) if name.startswith("r") else number


def _value_of(
    name: str, expressions: dict[str, Expression | None], given: dict[str, PathpointValueType]
) -> PathpointValueType:
    if name in given:
        return given[name]
    expression = expressions[name]
    if expression is None:
        fail(f"no value for {name}: add {name}=VALUE")
    operands = [_value_of(constituent, expressions, given) for constituent in expression.variables]
    return expression.evaluate_as(name, operands)
