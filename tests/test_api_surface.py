"""The public API of the reference client exists here under the same names, with the same
parameters, and is documented.

``data/api_surface.json`` lists it: module → name → what it is. Classes have members, each written
as its kind and its parameters: ``method(path, storage_level=…)``.
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from smok_fast import extras
from smok_fast.ngtt.protocol import NGTTFrame
from smok_fast.pathpoint import Section
from smok_fast.predicate import DisabledTime, Event, Time

SURFACE: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "api_surface.json").read_text(encoding="utf-8")
)


class Item(NamedTuple):
    """Something public: a name of a module, or a member of a class."""

    module: str
    name: str
    member: str | None
    what: Any

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.name, self.member)))

    @property
    def owner(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name)


def items() -> Iterator[Item]:
    for module, names in SURFACE.items():
        for name, what in names.items():
            yield Item(module, name, None, what)
            if isinstance(what, dict):
                members = {member: kind for member, kind in what.items() if member != "enum"}
                yield from (Item(module, name, member, kind) for member, kind in members.items())


PRESENT = list(items())
MEMBERS = [item for item in PRESENT if item.member is not None]
CALLABLES = [
    item for item in PRESENT if isinstance(item.what, str) and not item.what.startswith("property")
]


def each(chosen: list[Item]) -> Any:
    return pytest.mark.parametrize("item", chosen, ids=str)


def test_the_list_is_the_whole_one() -> None:
    assert len(SURFACE) == 18
    assert len(list(items())) == 457


@each([item for item in PRESENT if item.member is None])
def test_a_name_is_in_its_module_and_exported(item: Item) -> None:
    module = importlib.import_module(item.module)
    assert hasattr(module, item.name)
    assert item.name in module.__all__
    if isinstance(item.what, dict):
        assert inspect.isclass(item.owner)


@each([item for item in PRESENT if isinstance(item.what, dict) and "enum" in item.what])
def test_an_enum_has_the_members_with_their_values(item: Item) -> None:
    assert issubclass(item.owner, enum.Enum)
    members = {member.name: member.value for member in item.owner}
    assert item.what["enum"].items() <= members.items()


@each([item for item in MEMBERS if item.what.startswith("property")])
def test_a_property_can_be_got_and_set_as_listed(item: Item) -> None:
    found = inspect.getattr_static(item.owner, str(item.member))
    assert inspect.isdatadescriptor(found)
    if item.what == "property (settable)":
        assert isinstance(found, property) and found.fset is not None


class Parameters(NamedTuple):
    """The parameters that an item is listed with."""

    required: list[str]
    optional: list[str]
    any_positional: bool
    any_named: bool

    @classmethod
    def parse(cls, what: str) -> Parameters:
        listed = re.fullmatch(r"\w+\((.*)\)", what)
        assert listed is not None, what
        names = [name for name in listed[1].split(", ") if name]
        plain = [name for name in names if not name.startswith("*")]
        return cls(
            [name for name in plain if not name.endswith("=…")],
            [name.removesuffix("=…") for name in plain if name.endswith("=…")],
            any(re.fullmatch(r"\*\w+", name) for name in names),
            any(name.startswith("**") for name in names),
        )


def signature(item: Item) -> inspect.Signature:
    """The signature of an item, as its caller sees it."""
    if item.member is None or item.member == "__init__":
        return inspect.signature(item.owner)
    found = inspect.getattr_static(item.owner, item.member)
    if isinstance(found, classmethod | staticmethod) or inspect.isbuiltin(found):
        return inspect.signature(getattr(item.owner, item.member))
    method = getattr(item.owner, item.member)
    if item.what.startswith("method"):
        # As it is bound to an instance, of which none is needed to see it
        return inspect.signature(functools.partial(method, object()))
    return inspect.signature(method)


@each(CALLABLES)
def test_it_can_be_called_with_the_listed_parameters(item: Item) -> None:
    parameters = Parameters.parse(item.what)
    names = [*parameters.required, *parameters.optional]
    callable_ = signature(item)
    more: list[object] = [object()] if parameters.any_positional else []
    named: dict[str, object] = {"anything_else": object()} if parameters.any_named else {}
    for count in range(len(parameters.required), len(names) + 1):
        given = {name: object() for name in names[:count]}
        by_name = callable_.bind(**given, **named)
        bound = {name: by_name.arguments[name] for name in given}
        assert bound == given
        rest = more if count == len(names) else []
        by_position = callable_.bind(*given.values(), *rest, **named)
        assert {name: by_position.arguments[name] for name in given} == given


@each([item for item in MEMBERS if item.what.startswith(("classmethod", "staticmethod"))])
def test_what_needs_no_instance_is_called_on_the_class(item: Item) -> None:
    assert item.what.startswith("classmethod") == (
        getattr(getattr(item.owner, str(item.member)), "__self__", None) is item.owner
    )


@each([item for item in PRESENT if not (item.member or "").startswith("_")])
def test_it_is_documented(item: Item) -> None:
    if item.member is None:
        text = item.owner.__doc__
    else:
        # getdoc finds the words of a method that it overrides for one that has none of its own
        text = inspect.getdoc(inspect.getattr_static(item.owner, item.member))
        text = text or inspect.getdoc(getattr(item.owner, item.member))
    assert text is not None and len(text.split()) > 1


#: The words that tell which thread calls something.
THREAD = re.compile(
    r"Thread|any\s+thread|the\s+thread|user\s+threads|several\s+threads|constructor\s+of"
    r"|by\s+whoever|by\s+statistics"
)

#: What users override, and the library calls.
OVERRIDDEN = re.compile(
    r"\.SMOKDevice\.(on_\w+|provide_unknown_pathpoint|execute_section|sync_sections|execute_sysctl)$"
    r"|\.Pathpoint\.on_\w+$|\.BaseStatistic\.[a-z]\w+$"
    r"|\.Base\w+(Database|Synchronization|Synchronize)\.[a-z]\w+$"
)


@each([item for item in MEMBERS if OVERRIDDEN.search(str(item))])
def test_what_users_override_says_which_thread_calls_it(item: Item) -> None:
    told = f"{item.owner.__doc__}\n{inspect.getdoc(getattr(item.owner, str(item.member)))}"
    assert THREAD.search(told)


def is_public_class(what: object, module: str) -> bool:
    return inspect.isclass(what) and what.__module__ == module and not what.__name__.startswith("_")


def classes_that_tell() -> list[type]:
    """Classes whose members, each or all together, say which thread calls them."""
    found: list[type] = [Section, Event, Time, DisabledTime, NGTTFrame]
    for file in pkgutil.iter_modules(extras.__path__, f"{extras.__name__}."):
        module = importlib.import_module(file.name)
        found += [what for what in vars(module).values() if is_public_class(what, file.name)]
    return found


@pytest.mark.parametrize("cls", classes_that_tell(), ids=lambda cls: cls.__name__)
def test_what_a_class_has_says_which_thread_calls_it(cls: type) -> None:
    own = inspect.getdoc(cls) if "__doc__" in vars(cls) else ""
    if THREAD.search(own or ""):
        return
    silent = [
        name
        for name, member in vars(cls).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | classmethod))
        and not THREAD.search(member.__doc__ or "")
    ]
    assert silent == []


@pytest.mark.parametrize(
    "name", ["ReadOrder", "WriteOrder", "MessageOrder", "WaitOrder", "SysctlOrder", "RegisterName"]
)
def test_a_native_class_says_which_thread_calls_it(name: str) -> None:
    stub = Path(extras.__file__).parents[1] / "_core.pyi"
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    assert THREAD.search(ast.get_docstring(found) or "")
