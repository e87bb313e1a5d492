"""Every room says truly what is in it, where to change what, and what it imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.prose import PACKAGES, ROOT

ROOMS = sorted(
    file.parent
    for package in PACKAGES
    for file in (ROOT / package).glob("*/__init__.py")
    if file.parent.name != "migrations"
)
GROWING = {"candlecast/api", "candlecast/features", "service/telemetry"}


def place(room: Path) -> str:
    return room.relative_to(ROOT).as_posix()


def docstring(room: Path) -> str:
    return ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""


def may_import(room: Path) -> str:
    """The last sentence of a room's docstring, on one line or two."""
    return docstring(room).partition("May import ")[2].replace("\n", " ")


def imported(room: Path) -> set[str]:
    """The siblings that a room's modules import, and the other packages."""
    package = room.parent.name
    found = set()
    for file in room.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                top, _, rest = name.partition(".")
                if top == package:
                    found.add(rest.split(".")[0])
                elif top in PACKAGES:
                    found.add(top)
    return found - {room.name, "__version__"}


@pytest.mark.parametrize("room", ROOMS, ids=place)
def test_a_docstring_says_what_where_and_what_is_imported(room: Path):
    lines = docstring(room).splitlines()

    assert lines[0].endswith(".")
    assert 3 <= sum(bool(line) for line in lines) <= 8
    assert any(line.startswith("To ") for line in lines)
    assert may_import(room).endswith(".")


@pytest.mark.parametrize("room", ROOMS, ids=place)
def test_every_module_that_a_docstring_names_exists(room: Path):
    named = re.findall(r"[\w/.-]+\.(?:py|yaml|j2|md)\b", docstring(room))

    assert named
    assert [name for name in named if not (room / name).exists() and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("room", ROOMS, ids=place)
def test_a_room_imports_what_its_docstring_allows(room: Path):
    allowed = set(re.findall(r"\w+", may_import(room)))

    assert imported(room) <= allowed


@pytest.mark.parametrize("room", ROOMS, ids=place)
def test_a_room_has_three_files_or_is_about_to_grow_and_has_no_rooms(room: Path):
    modules = [file for file in room.glob("*.py") if file.name != "__init__.py"]

    assert len(modules) >= 3 or place(room) in GROWING
    assert not list(room.glob("*/__init__.py"))


def test_every_package_is_made_of_rooms():
    assert {place(room).split("/")[0] for room in ROOMS} == {"candlecast", "training", "service", "flows"}
