"""The objects that handlers share: one of each type, opened by `service.wiring` and found by type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, cast

from starlette.requests import Request

_T = TypeVar("_T")


class Resources:
    """Objects that all threads may use, one of each type; `resources[Limits]` is the one of type `Limits`."""

    def __init__(self, *objects: object) -> None:
        self._by_type = {type(each): each for each in objects}

    def __getitem__(self, wanted: type[_T]) -> _T:
        return cast(_T, self._by_type[wanted])

    def __iter__(self) -> Iterator[object]:
        return iter(self._by_type.values())


def resources(request: Request) -> Resources:
    """Find the resources of the application that received a request."""
    found: Resources = request.app.state.resources
    return found
