"""Whether requests should be sent to this process."""

from __future__ import annotations

import time
from dataclasses import dataclass

from candlecast.errors import BundleError
from candlecast.registry.registry import CHAMPION
from service.models.reloader import ModelReloader
from service.models.reloaders import ModelReloaders
from service.models.served import ServedModel

_CHECK_VALID_S = 2.0


@dataclass(frozen=True, slots=True)
class _GoldenCheck:
    """The answer of a model to its golden sample: when, on the monotonic clock, and what was wrong."""

    at: float
    model: ServedModel
    fault: str | None


class Readiness:
    """Readiness of one process; a golden sample is computed at most once in two seconds."""

    def __init__(self, reloaders: ModelReloaders) -> None:
        self._reloaders = reloaders
        self.is_draining = False
        self._checks: dict[str, _GoldenCheck] = {}

    def drain(self) -> None:
        """Report the process as not ready from now on."""
        self.is_draining = True

    def fault(self) -> str | None:
        """Say why requests should not be sent here.

        A market without champion does not make the others unready. A market whose registry entry was not read yet
        does, because another replica may serve its champion.

        Returns:
            One sentence; None if the process is ready.
        """
        reloaders = self._reloaders.all
        if not any(CHAMPION in reloader.served for reloader in reloaders):
            return self.fault_of(reloaders[0])
        late = next((reloader for reloader in reloaders if not reloader.has_polled), None)
        if late is not None:
            return f"{late.market.model_name}: its aliases were not read from the registry yet"
        faults = (self.fault_of(reloader) for reloader in reloaders if CHAMPION in reloader.served)
        return next(filter(None, faults), None)

    def fault_of(self, reloader: ModelReloader) -> str | None:
        """Say why requests about one market should not be sent here; None if they should."""
        if self.is_draining:
            return "this service is about to stop: ask another replica, or retry in a moment"
        champion = reloader.served.get(CHAMPION)
        if champion is None:
            problems = "; ".join(f"{about}: {why}" for about, why in reloader.problems.items())
            return f"no champion is being served yet: {problems or 'train and promote a model'}"
        name = reloader.market.model_name
        check = self._checks.get(name)
        if check is None or check.model is not champion or time.monotonic() - check.at > _CHECK_VALID_S:
            check = self._checks[name] = _GoldenCheck(time.monotonic(), champion, _golden_fault(champion))
        return check.fault


def _golden_fault(champion: ServedModel) -> str | None:
    try:
        champion.check_golden()
    except BundleError as exc:
        return f"version {champion.version} no longer reproduces its golden sample, restart the service: {exc}"
    return None
