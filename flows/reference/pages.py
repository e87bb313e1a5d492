"""Every page that is written from the code, by its file."""

from __future__ import annotations

from pathlib import Path

from flows.reference import code, interfaces
from flows.reference.imports import write_imports
from flows.reference.markdown import page
from flows.reference.tables import tables_page


def write_pages(root: Path, docs: Path) -> None:
    """Write the reference, the example of candlecast.toml, the pictures of imports and the icon."""
    pages = {
        "index": page("Reference", _INDEX),
        "settings": code.settings_page(),
        "commands": code.commands_page(),
        "http": interfaces.http_page(),
        "tables": tables_page(),
        "metrics": interfaces.metrics_page(root),
        "errors": code.errors_page(),
        "client": code.client_page(),
    }
    for directory in ("reference", "images", "explanation"):
        (docs / directory).mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (docs / "reference" / f"{name}.md").write_text(text, encoding="utf-8")
    (docs / "images" / "icon.svg").write_bytes((root / "service" / "page" / "icon.svg").read_bytes())
    (docs / "candlecast.example.toml").write_text(code.example_file(), encoding="utf-8")
    write_imports(docs / "explanation")


_INDEX = """These pages are written from the code.

- [Settings](settings.md): variables and keys, defaults, meanings
- [Commands](commands.md): the command line
- [HTTP](http.md): routes, parameters, answers
- [Python client](client.md): `candlecast.client`
- [Errors](errors.md): what each means and what to do
- [Tables](tables.md): the database
- [Metrics and alerts](metrics.md): Prometheus"""
