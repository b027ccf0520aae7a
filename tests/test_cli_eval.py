"""``smok-fast eval``."""

from __future__ import annotations

import pytest
from click.testing import Result
from typer.testing import CliRunner

from smok_fast.cli.app import app


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments], env={"COLUMNS": "80"})


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["rW{W1r1}+1", "W1r1=41"], "42"),
        (["rW{W1r1}*{W1r1}", "W1r1=300"], "65535"),
        (["rw{w1}", "w1=-7"], "-7"),
        (["rf({f1}-{f2})/10", "f1=615", "f2=482.5"], "13.25"),
        (["rd{d1}", "d1=1e3"], "1000.0"),
        (["rB{B1} and {B2}", "B1=1", "B2=0"], "False"),
        (["ru{u1}[::-1]", "u1=abc"], "cba"),
        (["ru{u1}*2", "u1=7"], "77"),
        (["ru{u1}+'!'", "u1=a=b"], "a=b!"),
        (["ru{u1}", "u1="], ""),
        (["rW{rW{W1}==2}+1", "rW{W1}==2=1"], "2"),
        (["rW{rW{W1}+1}*2+{W2}", "W1=5", "W2=1"], "13"),
        (["rW{rW{W1}+1}*2", "W1=5", "rW{W1}+1=7"], "14"),
        (["rW{rW{W1}}+{rW{W1}==2}", "W1=2", "rW{W1}==2=5"], "7"),
        (["rustr({B1})", "B1=1"], "1"),
        (["rustr({rB{W1}})", "rB{W1}=1"], "True"),
        (["rustr({rf{W1}})", "rf{W1}=1"], "1.0"),
        (["rd{rW{W1}}", "rW{W1}=70000.5"], "65535.0"),
        (["rd{W1}", "W1=70000.5"], "70000.5"),
        (["rW6*7"], "42"),
        (["ru'[bold]'"], "[bold]"),
    ],
)
def test_an_expression_is_evaluated_for_the_given_values(
    arguments: list[str], printed: str
) -> None:
    done = evaluate(*arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{printed}\n", "")


def test_explain_shows_the_tree_the_pathpoints_and_the_value() -> None:
    done = evaluate("rWmax({W1r1},{W1r2})+1", "W1r1=41", "W1r2=5", "--explain")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert any("max" in line for line in lines[:-2])
    assert lines[-2:] == ["pathpoints: W1r1, W1r2", "42"]


def test_explain_needs_no_values() -> None:
    done = evaluate("--explain", "rW{W1r1}+1")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "pathpoints: W1r1"
    assert evaluate("--explain", "rW1+1").stdout.splitlines()[-2:] == ["pathpoints: none", "2"]


@pytest.mark.parametrize(
    ("name", "column"), [("rW{W1}+", 8), ("rW1+open('x')", 5), ("rW{W1}**", 9), ("rW", 3)]
)
def test_a_wrong_expression_is_shown_with_a_caret_below_what_is_wrong(
    name: str, column: int
) -> None:
    done = evaluate(name, "W1=1")
    assert done.exit_code == 1
    assert f"(column {column})" in done.stderr
    text, caret = done.stderr.splitlines()[:2]
    assert text == name
    assert caret == " " * (column - 1) + "^"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rW{W1}+{W2}", "W1=1"], "no value for W2: add W2=VALUE"),
        (["rW{W1}"], "no value for W1: add W1=VALUE"),
        (["rW{W1}", "W1"], "W1 is no NAME=VALUE"),
        (["rW{W1}", "W1=hot"], "W1=hot: W1 takes a number"),
        (["rW{f1}", "f1=nan"], "f1=nan: f1 takes a finite number"),
        (["ru{u1}", "u1=\udcff"], "u1 takes a text in UTF-8"),
        (["rW{f1}", "f1=-inf"], "f1=-inf: f1 takes a finite number"),
        (["rW{W1}", "W1=" + "9" * 5000], "W1 takes a finite number"),
        (["rW{W1}", "W1=1", "W1=2"], "W1 is given twice"),
        (["rW{rW{W1}+{W2}}", "W3=1"], "it has W1, W2"),
        (["rW5", "W1=1"], "it has none"),
        (["rW{rW{W1}+{W2}}", "W1=1"], "no value for W2: add W2=VALUE"),
        (["rW{rq{W1}}"], "declares no type"),
        (["rW{W1}", "W1=1", "W2=2"], "W2=2 is no NAME=VALUE for a pathpoint of the expression"),
        (["rW1/{W1}", "W1=0"], "division by zero"),
        (["rW'a'"], "invalid literal for int() with base 10: 'a'"),
        (["rW{x1}", "x1=1"], "declares no type"),
        (["W1"], "starts with r"),
        (["rx{W1}", "W1=1"], "declares no type"),
        (["rW{W1}", "W1=99999999999999999999"], "64 bits"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_of_error(arguments: list[str], message: str) -> None:
    done = evaluate(*arguments)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.startswith("smok-fast: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('rW"漢字漢字" + $', ['rW"漢字漢字" + $', " " * 15 + "^"]),
        ("rW1+\u2028", ["rW1+ ", " " * 4 + "^"]),
        ("rW\t1+", ["rW 1+", " " * 5 + "^"]),
        (
            "rW" + "1+" * 100 + "$" + "+1" * 100,
            ["… " + "1+" * 15 + "$" + "+1" * 14 + "+ …", " " * 32 + "^"],
        ),
        ("rW{rf{W1}+}", ["rf{W1}+", " " * 7 + "^"]),
    ],
)
def test_the_caret_stands_below_what_is_wrong_whatever_the_text_is(
    name: str, shown: list[str]
) -> None:
    done = evaluate(name)
    assert done.exit_code == 1
    assert [line.rstrip() for line in done.stderr.splitlines()[:2]] == [
        line.rstrip() for line in shown
    ]


def test_controls_for_the_terminal_are_not_passed_on() -> None:
    explained = evaluate("rW{W1\x1b[31m\nred}", "--explain").stdout
    assert explained.splitlines() == [r"{W1\x1b[31m\nred}", "pathpoints: W1\ufffd[31m\ufffdred"]
    assert "\x1b" not in evaluate("ru'a\x1b[2J'", "--explain").stdout
    assert "\x1b" not in evaluate("rW{W\x1b1}+").stderr
