#!/usr/bin/env python3
"""Write the digests of images into an overlay, or refuse an overlay with a tag alone; needs PyYAML and kubectl.

pin_images.py OVERLAY < LINES     lines: name of the manifests, blank, name@sha256:digest
pin_images.py --check OVERLAY
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

_PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def pin(overlay: Path, lines: list[str]) -> None:
    """Write `lines` into the `images` of the overlay's kustomization.yaml; other text of the file stays."""
    entries = []
    for name, image in (line.split() for line in lines if line.strip()):
        if not _PINNED.fullmatch(image):
            sys.exit(f"{image} has no digest")
        new_name, digest = image.split("@")
        place, _, tagged = new_name.rpartition("/")
        new_name = f"{place}/{tagged.partition(':')[0]}".lstrip("/")
        entries.append(f"  - {{name: {name}, newName: {new_name}, digest: {digest}}}\n")
    file = overlay / "kustomization.yaml"
    text, count = re.subn(r"(?m)^images:\n(?:  - .*\n)+", "images:\n" + "".join(entries), file.read_text())
    if count != 1:
        sys.exit(f"{file} has no list `images`")
    file.write_text(text)


def images(rendered: str) -> set[str]:
    """Return every image that the manifests name, in containers and in commands that start Jobs."""

    def inside(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(inside, node))
        if not isinstance(node, dict):
            return set()
        own = {value for key, value in node.items() if key == "image" and isinstance(value, str)}
        own |= {node["value"]} if node.get("name") == "IMAGE" and "value" in node else set()
        return own.union(*map(inside, node.values()))

    return set().union(*map(inside, yaml.safe_load_all(rendered)))


def bare(overlay: Path, kubectl: str = "kubectl") -> list[str]:
    """Return the images of an overlay that a tag alone names, so that another image may take their place."""
    command = [kubectl, "kustomize", str(overlay)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - the caller's overlay
    return sorted(image for image in images(rendered.stdout) if not _PINNED.fullmatch(image))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overlay", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if not given.check:
        pin(given.overlay, sys.stdin.readlines())
    elif found := bare(given.overlay):
        sys.exit("named by a tag alone: " + ", ".join(found))


if __name__ == "__main__":
    main()
