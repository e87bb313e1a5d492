"""The docs site: built without a network, complete in its navigation, and loading nothing from elsewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.guide import build_site
from tests.support.serving import ROOT


def listed(navigation: list[Any]) -> Iterator[str]:
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from listed(below if isinstance(below, list) else [below])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, built while no network can be reached."""
    directory = tmp_path_factory.mktemp("site")
    built = build_site(directory)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    return directory / "build" / "guide"


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = [*listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])]
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]

    assert sorted(navigation) == sorted(pages)


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    loaded = [
        (page.relative_to(site).as_posix(), tag)
        for page in pages
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|object)\b[^>]*>", page.read_text())
        if re.search(r"""(?:src|href|data)=["']?(?:https?:)?//""", tag)
    ]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))

    assert len(pages) > len([*(ROOT / "docs").rglob("*.md")])
    assert loaded == []
    assert re.findall(r"@import|url\(['\"]?(?:https?:)?//", styles) == []


@pytest.mark.parametrize("link", ["[a page](nothing.md)", "[an entry](index.md#nothing)"])
def test_a_broken_link_fails_the_build(tmp_path: Path, link: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "broken.md").write_text(f"# Broken\n\n{link}\n")

    built = build_site(tmp_path)

    assert built.returncode != 0
    assert "does not exist" in built.stdout + built.stderr
