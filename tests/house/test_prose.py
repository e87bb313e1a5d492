"""Prose is plain technical English; `docs/glossary.md` has the words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.prose import PACKAGES, ROOT, faults, tracked

PLACES = (*PACKAGES, "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "k8s", "ops", "images",
          "Makefile", "Caddyfile", "compose.yaml", "prefect.yaml", "bentofile.yaml", ".github")  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_prose_has_no_forbidden_word_and_no_inverted_sentence(place: str):
    files = tracked(place)

    assert files
    assert [fault for file in files for fault in faults(file)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docstring.py", '"""Nobody reads this."""\n'),
        ("comment.py", "value = 1  # nobody reads this\n"),
        ("message.py", 'raise ValueError("nobody answers")\n'),
        ("page.html", "<p>Nobody answers.</p>\n"),
        ("page.js", 'show("nobody answers");\n'),
        ("guide.md", "# Guide\n\nIt keeps nobody waiting.\n"),
        ("inverted.md", "Of a market that is new, nothing is shown.\n"),
        ("settings.yaml", "key: 1 # nobody\n"),
    ],
)
def test_a_planted_word_is_found(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)

    assert len(faults(tmp_path / name)) == 1


def test_code_is_not_prose(tmp_path: Path):
    (tmp_path / "names.py").write_text('nobody = 0\nraise KeyError("nobody")\n')
    (tmp_path / "guide.md").write_text("```console\n$ su nobody\n```\n")

    assert faults(tmp_path / "names.py") == faults(tmp_path / "guide.md") == []


def test_the_glossary_has_forty_words_in_order():
    words = re.findall(r"^\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)

    assert len(words) >= 40
    assert [word.lower() for word in words] == sorted(word.lower() for word in words)


def test_names_of_tests_are_short():
    names = [
        name
        for file in tracked("tests")
        if file.suffix == ".py"
        for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.MULTILINE)
    ]

    assert [name for name in names if len(name) > 70] == []
