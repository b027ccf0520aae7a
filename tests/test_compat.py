"""smok_fast.compat: programs that import the reference client's names, each in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smok_fast.server import LocalServer

PATIENCE = 60


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def installed(code: str, tmp_path: Path) -> str:
    """What a program prints after it has installed the names."""
    program = tmp_path / "program.py"
    program.write_text(
        "import smok_fast.compat\nsmok_fast.compat.install()\n" + textwrap.dedent(code)
    )
    done = run(program)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


ORDERS_OF_IMPORT = [
    "import smok.client, smok_fast.client",
    "import smok_fast.client, smok.client",
    "import smok, smok_fast.client, smok.client",
    "from smok import client; import smok, smok_fast.client",
    "from smok.client import SMOKDevice; import smok, smok_fast.client",
    "import importlib, smok; importlib.import_module('smok.client'); import smok_fast.client",
]


@pytest.mark.parametrize("imports", ORDERS_OF_IMPORT)
def test_each_module_exists_once_whatever_is_imported_first(imports: str, tmp_path: Path) -> None:
    code = f"""
    {imports}
    import importlib
    import smok.pathpoint.orders, smok_fast.pathpoint.orders
    assert smok is smok_fast
    assert smok.client is smok_fast.client
    assert importlib.import_module("smok.client") is smok_fast.client
    assert smok.pathpoint.orders is smok_fast.pathpoint.orders
    assert smok.client.SMOKDevice is smok_fast.client.SMOKDevice
    for module in (smok, smok.client, smok.pathpoint.orders):
        assert module.__name__ == module.__spec__.name, module
        assert module.__name__.startswith("smok_fast")
    print("done")
    """
    assert installed(code, tmp_path) == "done\n"


def test_names_are_imported_from_the_reference_s_modules(tmp_path: Path) -> None:
    code = """
    from smok.basics import StorageLevel, Environment
    from smok.client import SMOKDevice, SlaveDevice
    from smok.exceptions import OperationFailedError, OperationFailedReason
    from smok.extras import BasePathpointDatabase
    from smok.logging import SMOKLogHandler
    from smok.pathpoint import AdviseLevel, Pathpoint, PathpointType, to_type
    from smok.pathpoint.orders import Disposition, Section
    from smok.predicate import BaseStatistic, Color
    from smok.sensor import fqtsify
    import smok_fast.sensor
    assert fqtsify is smok_fast.sensor.fqtsify
    print(to_type(70000, PathpointType.W), SMOKDevice.__module__)
    """
    assert installed(code, tmp_path) == "65535 smok_fast.client.device\n"


def test_pickles_that_name_the_reference_s_modules_find_their_classes(tmp_path: Path) -> None:
    code = """
    import pickle
    level = pickle.loads(b"csmok.basics\\nStorageLevel\\n(I1\\ntR.")
    from smok_fast.basics import StorageLevel
    assert level is StorageLevel.TREND
    print(b"smok_fast.basics" in pickle.dumps(level, 0))
    """
    assert installed(code, tmp_path) == "True\n"


def test_ngtt_is_a_part_of_this_package(tmp_path: Path) -> None:
    # A package that stands in for smok_fast.ngtt where that is not there
    package = tmp_path / "more" / "ngtt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "uplink.py").write_text("class NGTTConnection: pass\n")
    code = f"""
    smok_fast.__path__.append({str(package.parent)!r})
    from ngtt.uplink import NGTTConnection
    import ngtt, smok.ngtt, smok_fast.ngtt.uplink
    assert ngtt is smok.ngtt is smok_fast.ngtt
    print(NGTTConnection is smok_fast.ngtt.uplink.NGTTConnection)
    """
    assert installed(code, tmp_path) == "True\n"


@pytest.mark.parametrize("name", ["smok.no_such", "smok.basics.no_such", "smok_fast.no_such"])
def test_what_has_no_counterpart_is_not_found(name: str, tmp_path: Path) -> None:
    code = f"""
    import importlib.util, sys
    try:
        import {name}
    except ModuleNotFoundError as error:
        print(error.name)
    """
    assert installed(code, tmp_path) == f"{name}\n"


def test_names_that_only_begin_alike_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "smokestack.py").write_text("HEIGHT = 40\n")
    code = """
    import smokestack
    import json
    print(smokestack.HEIGHT)
    """
    assert installed(code, tmp_path) == "40\n"


def test_an_import_that_fails_fails_under_both_names_and_can_be_repeated(tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "broken.py").write_text("raise OSError('broken')\n")
    code = f"""
    import sys
    smok_fast.__path__.append({str(more)!r})
    for _ in range(2):
        try:
            import smok.broken
        except OSError as error:
            print(error, [name for name in sys.modules if "broken" in name])
    """
    assert installed(code, tmp_path) == "broken []\n" * 2


def test_installing_twice_is_installing_once(tmp_path: Path) -> None:
    code = """
    import sys
    import smok.client
    finders = list(sys.meta_path)
    smok_fast.compat.install()
    import smok.compat
    smok.compat.install()
    print(sys.meta_path == finders)
    """
    assert installed(code, tmp_path) == "True\n"


@pytest.mark.parametrize("name", ["smok", "ngtt"])
def test_the_reference_that_was_imported_before_is_an_error_that_says_so(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").touch()
    program = tmp_path / "program.py"
    program.write_text(f"import {name}\nimport smok_fast.compat\nsmok_fast.compat.install()\n")
    done = run(program)
    assert done.returncode == 1
    (last,) = done.stderr.splitlines()[-1:]
    assert last.startswith(f"RuntimeError: {name} was imported from {tmp_path / name}.py before")


# --- python -m smok_fast.compat -------------------------------------------------------------------

#: A program that tells how it was started, and ends in several ways.
TELLING = """
import atexit, pathlib, signal, sys, threading
import helper
from helper import what
if what == "tell":
    import pickle
    class Mine: pass
    main = sys.modules["__main__"]
    print(sys.argv, __name__, __file__, __spec__, __package__, __loader__.get_filename("__main__"))
    print(sys.path[0], main.__dict__ is globals(), sorted(pathlib.Path(sys.path[0]).rglob("*")))
    atexit.register(lambda: print(sys.modules["__main__"] is main, pickle.dumps(Mine())[:2]))
    threading.Thread(target=lambda: print(pickle.loads(pickle.dumps(Mine())).__class__)).start()
elif what == "raise":
    def inner():
        raise ValueError("deep") from KeyError("cause")
    inner()
elif what == "interrupt":
    signal.raise_signal(signal.SIGINT)
elif what == "signal":
    signal.raise_signal(signal.SIGTERM)
elif what == "text":
    sys.exit("that is why")
else:
    sys.exit(int(what))
"""


@pytest.mark.parametrize(
    "what", ["tell", "raise", "interrupt", "signal", "text", "0", "7", "no number", "syntax"]
)
def test_a_program_runs_just_as_python_runs_it(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "some folder"
    folder.mkdir()
    (folder / "helper.py").write_text(f"what = {what!r}\n")
    program = folder / "a program.py"
    program.write_text("def (\n" if what == "syntax" else TELLING)
    arguments = ["some folder/a program.py", "-v", "--", "", "-m"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    plain = run(*arguments, cwd=tmp_path, env=environment)
    compatible = run("-m", "smok_fast.compat", *arguments, cwd=tmp_path, env=environment)
    assert compatible.stdout == plain.stdout
    assert compatible.stderr == plain.stderr
    # Python dies of a signal only if it runs a program; as a module it says the same by a status.
    same = {-2: (-2, 130)}.get(plain.returncode, (plain.returncode,))
    assert compatible.returncode in same
    assert plain.stdout or plain.returncode or what == "0", "the program did something"


def test_the_program_s_name_is_needed_and_must_be_there(tmp_path: Path) -> None:
    done = run("-m", "smok_fast.compat")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m smok_fast.compat program.py")
    asked = run("-m", "smok_fast.compat", "--help")
    assert (asked.returncode, asked.stderr, asked.stdout) == (0, "", done.stderr)
    for missing in (tmp_path / "no such.py", tmp_path):
        done = run("-m", "smok_fast.compat", missing)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"smok_fast.compat: there is no program {missing}\n"


#: A program as people have written them for the reference.
REFERENCE_PROGRAM = """
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

from smok.basics import StorageLevel
from smok.client import SMOKDevice
from smok.exceptions import OperationFailedError, OperationFailedReason
from smok.pathpoint import AdviseLevel, Pathpoint, PathpointType, ReadOrder, Section, to_type
from smok.predicate import BaseStatistic, Color

bus = ThreadPoolExecutor(1)
memory = {"W1": 17, "W2": 5}


class MyModbusRegister(Pathpoint):
    def on_read(self, advise: AdviseLevel) -> Future:
        return bus.submit(self.fetch)

    def fetch(self):
        if self.name not in memory:
            raise OperationFailedError(OperationFailedReason.INVALID)
        return memory[self.name]

    def on_write(self, value, advise: AdviseLevel) -> Future:
        return bus.submit(memory.__setitem__, self.name, to_type(value, PathpointType.W))


class MyDevice(SMOKDevice):
    def __init__(self, cert, key):
        super().__init__(cert, key, 'predicates.pickle')

    def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
        return MyModbusRegister(self, name, storage_level)


class Watching(BaseStatistic):
    def on_tick(self):
        self.open_event('seen', Color.WHITE)


sd = MyDevice(*sys.argv[1:])
pp = MyModbusRegister(sd, 'W1', StorageLevel.TREND)
sd.register_statistic(Watching, lambda stat_name, configuration: stat_name == 'watching')
sd.execute(pp.write(70000, AdviseLevel.FORCE))
section = Section([ReadOrder('W1', AdviseLevel.ADVISE), ReadOrder('W2', AdviseLevel.ADVISE)])
sd.execute(section)
section.result(timeout=30)
print(pp.get()[1], sd.get_pathpoint('W2').get()[1])
sum_of_both = sd.get_pathpoint('rW{W1}-{W2}')
print(sum_of_both.get()[1])
sd.close()
bus.shutdown()
"""


def test_a_program_of_the_reference_runs_unchanged(
    smok_server: LocalServer, device_certificate: Callable[..., Any], tmp_path: Path
) -> None:
    certificate = device_certificate("1")
    program = tmp_path / "device.py"
    program.write_text(REFERENCE_PROGRAM)
    done = run(
        "-m",
        "smok_fast.compat",
        program,
        certificate.cert,
        certificate.key,
        cwd=tmp_path,
        env={**os.environ, "SMOK_BASE_URL": smok_server.url},
    )
    assert done.stderr == ""
    assert done.stdout == "65535 5\n65530\n"
    assert done.returncode == 0
    held = {name: smok_server.admin.values("1", name)[-1].value for name in ("W1", "W2")}
    assert held == {"W1": 65535, "W2": 5}
