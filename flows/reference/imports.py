"""Pictures of the imports between rooms, as SVG files and a page."""

from __future__ import annotations

from pathlib import Path

from flows.reference.markdown import code, page, table

PACKAGES = ("candlecast", "training", "monitoring", "service", "flows")
_WIDTH, _ROW, _BOX = 900, 84, 26
_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2933; text-anchor: middle }
rect { fill: #eef2f7; stroke: #8494a7 } path { fill: none; stroke: #8494a7 } marker path { fill: #8494a7 }
@media (prefers-color-scheme: dark) { text { fill: #e4e9f0 } rect { fill: #2b3440 } }
</style>"""

Graph = dict[str, set[str]]


def import_graphs() -> dict[str, Graph]:
    """Read which rooms import which.

    Returns:
        Imported rooms by importing room, for `packages` as a whole and for every package.
    """
    import grimp

    whole = grimp.build_graph(*PACKAGES, cache_dir=None)
    graphs: dict[str, Graph] = {"packages": {}}
    for package in PACKAGES:
        rooms = sorted(whole.find_children(package))
        for room in rooms:
            whole.squash_module(room)
        graphs[package] = {
            room.partition(".")[2]: {
                used.partition(".")[2] for used in whole.find_modules_directly_imported_by(room) if used in rooms
            }
            for room in rooms
        }
    for package in PACKAGES:
        whole.squash_module(package)
    for package in PACKAGES:
        graphs["packages"][package] = whole.find_modules_directly_imported_by(package) & set(PACKAGES)
    return {
        name: {room: used for room, used in graph.items() if used or any(room in others for others in graph.values())}
        for name, graph in graphs.items()
    }


def write_imports(directory: Path) -> None:
    """Write `imports.md` and one picture for each package below `directory`."""
    parts = [
        "An arrow means that a room imports another. All arrows point down, so no imports form a cycle. A picture "
        "leaves out an arrow that follows from others; the table below it lists every import."
    ]
    (directory / "imports").mkdir(exist_ok=True)
    for name, graph in import_graphs().items():
        (directory / "imports" / f"{name}.svg").write_text(picture(graph), encoding="utf-8")
        rows = [(code(room), ", ".join(map(code, sorted(graph[room])))) for room in sorted(graph)]
        parts += [f"## {name}", f"![Imports of {name}](imports/{name}.svg)", table(("room", "imports"), rows)]
    (directory / "imports.md").write_text(page("Imports between rooms", *parts), encoding="utf-8")


def levels(graph: Graph) -> dict[str, int]:
    """Count the imports on the longest way down from each room.

    Returns:
        A level for each room, above those of all that it imports unless imports form a cycle.
    """
    found: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...]) -> int:
        if room not in found:
            below = (level(used, (*above, room)) for used in graph[room] if used not in above)
            found[room] = 1 + max(below, default=-1)
        return found[room]

    for room in graph:
        level(room, ())
    return found


def picture(graph: Graph) -> str:
    """Draw the rooms in rows, each above all that it imports."""
    rows: list[list[str]] = [[] for _ in range(1 + max(levels(graph).values(), default=0))]
    for room, level in sorted(levels(graph).items()):
        rows[-1 - level].append(room)
    direct = _without_shortcuts(graph)
    at: dict[str, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        users = {room: [at[user][0] for user in at if room in direct[user]] for room in row}
        row.sort(key=lambda room: sum(users[room]) / len(users[room]) if users[room] else _WIDTH / 2)
        for place, room in enumerate(row):
            at[room] = (_WIDTH * (place + 0.5) / len(row), _ROW * index + _BOX)
    drawn = [_arrow(at[room], at[used]) for room in sorted(direct) for used in sorted(direct[room])]
    drawn += [_room(room, *at[room]) for room in sorted(at)]
    arrow = '<marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_ROW * (len(rows) - 1) + 2 * _BOX}">',
            _STYLE,
            f'<defs>{arrow}<path d="M0 0 8 4 0 8z"/></marker></defs>',
            *drawn,
            "</svg>\n",
        )
    )


def _without_shortcuts(graph: Graph) -> Graph:
    """Drop each import of a room that another imported room reaches."""

    def reach(room: str, seen: set[str]) -> set[str]:
        for used in graph[room] - seen:
            seen.add(used)
            reach(used, seen)
        return seen

    return {room: used.difference(*(reach(one, set()) for one in used)) for room, used in graph.items()}


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (u, v) = start, end
    y, v = y + _BOX / 2, v - _BOX / 2
    bend = min(_ROW, (v - y) / 2)
    curve = f"M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {u:.0f} {v - bend:.0f} {u:.0f} {v:.0f}"
    return f'<path d="{curve}" marker-end="url(#end)"/>'


def _room(name: str, x: float, y: float) -> str:
    width = 8 * len(name) + 16
    box = f'<rect x="{x - width / 2:.0f}" y="{y - _BOX / 2:.0f}" width="{width}" height="{_BOX}" rx="5"/>'
    return f'{box}<text x="{x:.0f}" y="{y + 4:.0f}">{name}</text>'
