"""`python -m flows.reference`: write the generated pages of the docs site, in the repository's root."""

from __future__ import annotations

from pathlib import Path

from flows.reference.pages import write_pages

if __name__ == "__main__":
    write_pages(Path.cwd(), Path("docs"))
