"""The feature sets, by name.

To add one, write its module and list it here; its names and formulas are then a contract of the bundles that take it.
"""

from __future__ import annotations

from candlecast.errors import ConfigurationError
from candlecast.features.base import BASE
from candlecast.features.features import FeatureSet
from candlecast.features.indicators import INDICATORS

FEATURE_SETS = {one.name: one for one in (BASE, INDICATORS)}


def feature_set(name: str) -> FeatureSet:
    """Return the feature set of a name.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in FEATURE_SETS:
        raise ConfigurationError(f"Unknown feature set {name!r}: use one of {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name]
