"""Mutants of a module: its source with one operator, comparison or constant changed by Cosmic Ray.

mutmut 3 changes functions alone, and most limits are constants outside of functions.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module's source with one change.

    Attributes:
        definition: Function or class that holds the change; empty outside of them.
        line: Number of the changed line.
        before: The changed line as it is.
        after: That line in the mutant.
        source: Text of the whole mutant.
    """

    definition: str
    line: int
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """Name of the mutant that stays the same while other lines change."""
        return f"{self.definition or 'module'}: {self.before} -> {self.after}"


def mutants(module: Path, operators: list[str], sample: int | None = None, seed: int = 1) -> list[Mutant]:
    """Change a module in every place, or in `sample` random places, and sort by line.

    Annotations, decorators and the parameters of functions are left as they are, but defaults are changed. A change
    after which the module does not compile is no mutant.
    """
    source = module.read_text()
    places = list(_places(source, operators))
    if sample is not None:
        random.Random(seed).shuffle(places)  # noqa: S311 (no secret)
    found: dict[str, Mutant] = {}
    for operator, occurrence, line, definition in places:
        mutated = mutate_code(source, get_operator(operator)(), occurrence)
        if mutated is None or not _compiles(mutated):
            continue
        before, after = (_squeezed(text.splitlines()[line - 1]) for text in (source, mutated))
        found.setdefault(mutated, Mutant(definition, line, before, after, mutated))
        if len(found) == sample:
            break
    return sorted(found.values(), key=lambda mutant: (mutant.line, mutant.after))


def _places(source: str, operators: list[str]) -> Iterator[tuple[str, int, int, str]]:
    """Yield operator, its occurrence, line and definition of every change."""
    ignored, tree = _ignored(source), get_ast(source)
    for name in operators:
        operator = get_operator(name)()
        positions = ((node, at) for node in ast_nodes(tree) for at, _ in operator.mutation_positions(node))
        for occurrence, (node, at) in enumerate(positions):
            unpacks = node.type == "operator" and node.parent.type in {"parameters", "dictorsetmaker"}
            if not unpacks and not any(start <= at < end for start, end in ignored):
                yield name, occurrence, at[0], ASTQuery(node).get_definition_name() or ""


def _ignored(source: str) -> list[tuple[Position, Position]]:
    """Find the spans of annotations, decorators and parameters without their defaults."""
    nodes: list[ast.expr | ast.arg] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes += node.decorator_list
        if isinstance(node, ast.FunctionDef) and node.returns:
            nodes.append(node.returns)
        if isinstance(node, ast.AnnAssign):
            nodes.append(node.annotation)
        if isinstance(node, ast.arg):
            nodes.append(node)
    return [((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)) for node in nodes]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _squeezed(line: str) -> str:
    return " ".join(line.split())
