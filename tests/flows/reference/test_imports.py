"""Imports between rooms: few nodes, no cycle, and never from a lower layer to a higher one."""

from __future__ import annotations

import re
import tomllib

import pytest

from flows.reference.imports import Graph, import_graphs, levels, picture
from tests.support.serving import ROOT

GRAPHS = import_graphs()


def upward(graph: Graph) -> list[tuple[str, str]]:
    level = levels(graph)
    return [(room, used) for room in graph for used in graph[room] if level[room] <= level[used]]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_picture_has_at_most_20_rooms_and_all_arrows_point_down(name: str) -> None:
    assert 0 < len(GRAPHS[name]) <= 20
    assert upward(GRAPHS[name]) == []


def test_no_room_imports_one_of_a_higher_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = {package: contract for contract in contracts for package in contract.get("containers", [])}

    for package in GRAPHS.keys() & layered.keys():
        contract = layered[package]
        rank = {room: place for place, layer in enumerate(contract["layers"]) for room in re.split(r"[|: ()]+", layer)}
        graph = GRAPHS[package]
        assert [(room, used) for room in graph for used in graph[room] if rank[room] > rank[used]] == []
    assert {"candlecast", "service", "flows"} <= layered.keys()


def test_an_import_that_another_path_implies_has_no_arrow() -> None:
    graph: Graph = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set()}

    drawn = picture(graph)

    assert (drawn.count("<rect "), drawn.count("marker-end")) == (3, 2)


def test_an_arrow_of_a_cycle_does_not_point_down() -> None:
    assert upward({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [("c", "a")]
