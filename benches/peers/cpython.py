"""CPython's side of the benchmarks, without any library: an expression that is compiled beforehand,
with the functions of the language and a dict of arguments, as the fastest use of ``eval``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.dont_write_bytecode = True

import workload
from workload import check, rate


def reparse_expression():
    text = workload.REPARSE_EXPRESSION.replace("{W1r1}", "v0").replace("{W1r2}", "v1")
    code = compile(text, "expression", "eval")
    functions = {"__builtins__": {}, "min": min, "max": max, "int": int, "float": float}
    first, second = workload.REPARSE_VALUES

    def work():
        for _ in range(workload.EVALUATIONS):
            eval(code, functions, {"v0": first, "v1": second})  # noqa: S307 - is measured

    figure = rate(workload.EVALUATIONS, work)
    result = eval(code, functions, {"v0": first, "v1": second})  # noqa: S307 - as above
    check(result == workload.REPARSE_RESULT, "value")
    return figure


if __name__ == "__main__":
    print({"reparse_expression": reparse_expression}[sys.argv[1]]())
