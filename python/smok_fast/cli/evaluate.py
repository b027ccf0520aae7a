"""``smok-fast eval``: what a reparse expression gives for values of its pathpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from smok_fast.cli.console import console, fail, printable
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
    given = dict(_assignment(text) for text in values or [])
    try:
        result_type, expression = _parse(pathpoint)
        if explain:
            console.print(expression.explain(), markup=False)
            console.print("pathpoints:", ", ".join(expression.variables) or "none", markup=False)
            if not given:
                return
        operands = [_value_of(name, given) for name in expression.variables]
        console.print(to_type(expression.evaluate(operands), result_type), markup=False)
    except ReparseSyntaxError as error:
        console.print(printable_lines(error.caret), markup=False, soft_wrap=True)
        fail(f"{error.message} (column {error.position + 3})")
    except (OperationFailedError, ValueError) as error:
        fail(error)


def _parse(pathpoint: str) -> tuple[PathpointType, Expression]:
    if not pathpoint.startswith("r"):
        fail("a reparse pathpoint starts with r and the letter of its type, such as rW{W1r1}+1")
    return PathpointType.get_type(pathpoint), Expression(pathpoint[2:])


def _assignment(text: str) -> tuple[str, str]:
    # A name may hold '=' itself, in a comparison; a value has no braces.
    name, equals, value = text.rpartition("=")
    if not equals:
        fail(f"{text} is no NAME=VALUE")
    return name, value


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


def printable_lines(text: str) -> str:
    """Several lines for the terminal, without its controls."""
    return "\n".join(printable(line) for line in text.splitlines())
