"""Time for which a registered version is used: from the end of its training data to its expiry."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from candlecast.registry.identity import ModelVersion, VersionSource, registered

TRAINED_UNTIL = "trained_until"
"""Tag of a version: the end of its training data, in ISO 8601."""

_EXPIRING, _EXPIRING_CANDLES = timedelta(days=1), 2


class Lifetime(NamedTuple):
    """Lifetime of a version.

    Attributes:
        trained_until: End of the training data.
        expiry: Time after `trained_until` from which the version abstains.
    """

    trained_until: datetime
    expiry: timedelta

    @property
    def expires_at(self) -> datetime:
        """Time from which the version abstains."""
        return self.trained_until + self.expiry

    def ends_within(self, span: timedelta, now: datetime) -> bool:
        """Return whether the version expires within `span` of `now`, which counts as half of its life at most."""
        return now + min(span, self.expiry / 2) >= self.expires_at

    def is_ending(self, step: timedelta, now: datetime) -> bool:
        """Return whether the version gives way to any fresher one: it expires within a day, or within two candles."""
        return self.ends_within(max(_EXPIRING, _EXPIRING_CANDLES * step), now)

    def past_half(self, now: datetime) -> bool:
        """Return whether the version has passed half of its life."""
        return now - self.trained_until > self.expiry / 2

    def expiry_note(self, now: datetime) -> str:
        """Say when the version expires or expired."""
        return f"{'expired' if now >= self.expires_at else 'expires'} at {self.expires_at:%F %R}"


def lifetime_of(registry: VersionSource, model_name: str, version: ModelVersion, expiry: timedelta) -> Lifetime | None:
    """Read the lifetime of a version, or None if it was deleted or has no valid tag."""
    found = registered(registry, model_name, version)
    try:
        trained_until = datetime.fromisoformat(found.tags.get(TRAINED_UNTIL, "") if found else "")
    except ValueError:
        return None
    return Lifetime(trained_until, expiry) if trained_until.tzinfo is not None else None
