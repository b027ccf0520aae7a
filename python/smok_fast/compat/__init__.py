"""Programs that import ``smok`` and ``ngtt``, run on smok_fast as they are.

Either the program asks for it, before anything imports the reference client::

    import smok_fast.compat

    smok_fast.compat.install()

or it is run by ``python -m smok_fast.compat your_program.py arguments…``, and not changed at all.

From then on ``smok`` is another name of this package in the whole process, and ``ngtt`` of
``smok_fast.ngtt``, modules below them included: ``smok.client`` *is* ``smok_fast.client``, so each
class exists once, and pickles that name the reference's modules find it. What has no counterpart
here is a ModuleNotFoundError.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["install"]

#: The reference's packages, and what they are names of from now on.
ALIASES = {"smok": "smok_fast", "ngtt": "smok_fast.ngtt"}


def install() -> None:
    """Have ``smok`` and ``ngtt`` be names of this package. No-op if they are already.

    To be called by the main thread, first of all.

    :raises RuntimeError: the reference client was imported before
    """
    for alias, name in ALIASES.items():
        module = sys.modules.get(alias)
        if module is not None and module is not sys.modules.get(name):
            where = getattr(module, "__file__", None) or "somewhere"
            raise RuntimeError(
                f"{alias} was imported from {where} before: "
                "call smok_fast.compat.install() ahead of all imports of it"
            )
    if not any(isinstance(finder, _Aliases) for finder in sys.meta_path):
        # First, else the path-based finder would load the same files a second time
        sys.meta_path.insert(0, _Aliases())


class _Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of this package under the reference's names."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a module that has a counterpart here; None leaves it to the other finders."""
        name = _counterpart(fullname)
        if name is None or importlib.util.find_spec(name) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """None: the import system makes a module, which :meth:`exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the counterpart in the module's place, as a module may do by itself.

        Had ``create_module`` returned it, its ``__spec__`` would be overwritten with the alias's.
        """
        name = _counterpart(module.__name__)
        if name is not None:
            sys.modules[module.__name__] = importlib.import_module(name)


def _counterpart(fullname: str) -> str | None:
    """What a name of the reference's stands for; None for other names."""
    package, dot, rest = fullname.partition(".")
    name = ALIASES.get(package)
    return name if name is None else name + dot + rest
