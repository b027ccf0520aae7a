"""``smok-fast eval``: what a reparse expression gives for values of its pathpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

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
        PathpointType.get_type(pathpoint)
        expression = Expression(pathpoint[2:])
        given = dict(_assignment(text, expression.variables) for text in values or [])
        if explain:
            console.print(expression.explain(), markup=False)
            console.print("pathpoints:", ", ".join(expression.variables) or "none", markup=False)
            if expression.variables and not given:
                return
        operands = [_value_of(name, given) for name in expression.variables]
        value = expression.evaluate_as(pathpoint, operands)
        console.print(printable(value), markup=False, soft_wrap=True)
    except ReparseSyntaxError as error:
        _show_caret(error, pathpoint[:2])
        fail(f"{error.message} (column {error.position + 3})")
    except (OperationFailedError, TypeError, ValueError) as error:
        fail(error)


def _show_caret(error: ReparseSyntaxError, beginning: str) -> None:
    text, caret = error.caret.splitlines()
    if not error.text.startswith(text):
        beginning = "… "  # it is too long to be shown whole
    error_console.print(printable(beginning + text), markup=False, soft_wrap=True)
    error_console.print(" " * len(beginning) + caret, markup=False, soft_wrap=True)


def _assignment(text: str, names: Sequence[str]) -> tuple[str, str]:
    # Both the name, if it is an expression, and a text may hold '='.
    name = next((name for name in names if text.startswith(f"{name}=")), None)
    if name is None:
        fail(f"{text} is no NAME=VALUE for a pathpoint of the expression")
    return name, text[len(name) + 1 :]


def _value_of(name: str, given: dict[str, str]) -> PathpointValueType:
    if name not in given:
        fail(f"no value for {name}: add {name}=VALUE")
    kind = PathpointType.get_type(name)
    text = given[name]
    if kind is PathpointType.u:
        return text
    number: int | float
    try:
        number = int(text)
    except ValueError:
        number = float(text)
    return to_type(number, kind) if kind is PathpointType.B else number
