"""Markdown from names, rows and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Written from the code by `make docs`; do not edit. -->"


def page(title: str, *parts: str) -> str:
    """Join the parts of a page below its title."""
    return "\n\n".join((GENERATED, f"# {title}", *(part.strip("\n") for part in parts if part))) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Draw a table, or nothing if there are no rows."""
    drawn = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    head = (f"| {' | '.join(header)} |", f"|{'---|' * len(header)}")
    return "\n".join((*head, *drawn)) if drawn else ""


def code(text: object) -> str:
    """Mark the text as code; an empty text stays empty."""
    return f"`{text}`" if str(text) else ""


def docstring(thing: object) -> str:
    """Turn a docstring into Markdown: each section becomes a list."""
    lines: list[str] = []
    section = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if re.fullmatch(r"(Args|Attributes|Returns|Raises):", line):
            lines += [f"**{line[:-1].replace('Args', 'Arguments')}**", ""]
            section = True
        elif section and (entry := re.fullmatch(r" {4}([\w.]+): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(f"  {line.strip()}" if section and line.startswith(" " * 8) else line.strip())
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", "\\|")).strip()
