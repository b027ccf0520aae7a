"""Each module can be the first one that a program imports."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import smok_fast

# Forked from a process that has loaded what others wrote, and nothing of ours: 100 fresh
# interpreters would take a minute.
IMPORT_EACH = """
import importlib, os, sys
import cryptography.x509, requests, rich.console, sqlalchemy, starlette.applications, typer, uvicorn
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException as error:
            print(f"{module}: {error!r}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_any_module_can_be_imported_first() -> None:
    modules = [
        module.name
        for module in pkgutil.walk_packages(smok_fast.__path__, "smok_fast.")
        if not module.name.endswith("__main__")
    ]
    assert len(modules) > 50
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *modules],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
