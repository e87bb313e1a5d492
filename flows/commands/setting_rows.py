"""The rows of `candlecast settings`."""

from __future__ import annotations

from typing import NamedTuple

from candlecast.market import Market
from candlecast.settings.file import MARKETS, market_settings
from candlecast.settings.settings import as_text, known_settings
from candlecast.settings.sources import load_with_origins


class SettingRow(NamedTuple):
    """Key in candlecast.toml, value and origin of a setting."""

    key: str
    value: str
    place: str


def setting_rows(market: str | None) -> list[SettingRow]:
    """Return every setting of a market.

    Args:
        market: Name of the market. None for the default one, and then the settings that each other market may have.

    Raises:
        ConfigurationError: The name is malformed, or as `load_settings`.
    """
    settings, origins = load_with_origins(None if market is None else Market.named(market))
    rows = [
        SettingRow(one.key, as_text(settings.effective(name)), origins[name]) for name, one in known_settings().items()
    ]
    for other in () if market else settings.all_markets[1:]:
        settings, origins = load_with_origins(other)
        keys: dict[str, str] = {}
        for key, name in market_settings().items():
            keys.setdefault(name, key)
        place = f"{MARKETS}.{other.model_name}"
        rows += [
            SettingRow(f"{place}.{key}", as_text(settings.effective(name)), origins[name]) for name, key in keys.items()
        ]
    return rows
