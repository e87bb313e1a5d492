"""The text of the repository that people read: docstrings, comments, messages, pages, documentation."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("candlecast", "training", "monitoring", "service", "flows")
READ = {".py", ".md", ".js", ".html", ".css", ".yaml", ".yml", ".j2", ".env", ".sh", ".toml"}
READ_NAMES = {"Makefile", "Dockerfile", "Caddyfile"}

FORBIDDEN = re.compile(
    r"\b(nobody|somebody|everybody|anybody|no one|whoever|whomever|whosoever|whatsoever|whence|whereof|thereof"
    r"|wherein|thrice|anew|lest|he|him|his|she|her|told|believed?|believes|believing|rehears\w+(?!\.onnx)|culprits?"
    r"|(?:is|are|was|were) away|makes? no sense)\b",
    re.IGNORECASE,
)
"""People words for software, archaic words, and metaphors for which the field has a word."""

INVERTED = re.compile(r"(?:^|(?<=[.!?] )|(?<=\"\"\"))(Of (?!course)|To be |Unusable |Nor |Likewise)")
"""Sentences that begin with something other than their subject, a condition or a time."""


def tracked(*places: str) -> list[Path]:
    """Files of the repository below `places` that hold prose; migrations are applied as they were written."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in names.stdout.splitlines() if "/migrations/" not in name]
    return [file for file in files if (file.suffix in READ or file.name in READ_NAMES) and file.is_file()]


def faults(file: Path) -> list[str]:
    """Every forbidden word and inverted sentence of a file, with its line."""
    return [
        f"{file.name}:{number}: {found[0]!r} in {line.strip()[:100]!r}"
        for number, line in prose(file)
        for pattern in (FORBIDDEN, INVERTED)
        for found in pattern.finditer(line)
    ]


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that people read, with their numbers; code blocks of Markdown are left out."""
    text = file.read_text()
    if file.suffix == ".py":
        yield from _python_prose(text)
        return
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if file.suffix == ".md" and line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield number, line


def _python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings, and every string with a space in it, because messages are such strings."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line
