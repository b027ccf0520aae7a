"""``python -m smok_fast.compat your_program.py arguments…``"""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from smok_fast import compat

USAGE = """\
usage: python -m smok_fast.compat program.py [arguments…]

Runs a program that imports smok and ngtt on smok_fast, just as python would run it."""


class _Program(SourceFileLoader):
    """Loads a program as Python loads what it is given to run: without a ``__pycache__``."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the program."""
        return self.source_to_code(self.get_data(self.path), self.path)


def main() -> None:
    """Run the program that the command line names, as if it had been given to Python.

    Not by :mod:`runpy`, which takes the program's ``__main__`` away when its last line was run,
    though threads of it may still run, and puts another path in ``sys.argv``.
    """
    del sys.argv[0]
    if not sys.argv or sys.argv[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if sys.argv else sys.stderr)
        sys.exit(0 if sys.argv else 2)
    program = Path(sys.argv[0]).absolute()
    if not program.is_file():
        print(f"smok_fast.compat: there is no program {sys.argv[0]}", file=sys.stderr)
        sys.exit(2)
    if not sys.flags.safe_path:  # else Python puts no folder there, neither the program's
        sys.path[0] = str(program.parent)
    compat.install()
    sys.excepthook = _report
    module = ModuleType("__main__")
    module.__file__ = str(program)
    module.__loader__ = loader = _Program("__main__", str(program))
    sys.modules["__main__"] = module
    loader.exec_module(module)


def _report(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """Show what the program raised, without the frames that are around it here."""
    program = sys.modules["__main__"].__file__
    while tb is not None and tb.tb_frame.f_code.co_filename != program:
        tb = tb.tb_next
    sys.__excepthook__(kind, error.with_traceback(tb), tb)


if __name__ == "__main__":
    main()
