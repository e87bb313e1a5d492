"""The bundle that a command means by a version."""

from __future__ import annotations

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_bundle
from candlecast.errors import ModelNotFound
from candlecast.registry.registry import CHAMPION
from candlecast.registry.versions import load_version
from candlecast.settings.settings import Settings
from flows.jobs.market import open_registry
from training.offline import newest_offline, offline_bundle


def chosen_version(settings: Settings, wanted: str | None) -> tuple[Bundle, str]:
    """Return the bundle of a version and the name of the version.

    Args:
        wanted: A version trained from a file, or a number or alias of the registry. None for the version last trained
            from a file, else the champion.

    Raises:
        ModelNotFound: No version has that name.
        RegistryUnavailable: No version trained from a file has that name, and MLflow does not answer.
        BundleError: The bundle is damaged, or of another build.
    """
    name = wanted or newest_offline(settings) or CHAMPION
    trained_here = offline_bundle(settings, name)
    if trained_here.is_dir():
        return load_bundle(trained_here), name
    registry, model_name = open_registry(settings), settings.market.model_name
    number = registry.aliases(model_name).get(name, name)
    if not number.isdecimal():
        raise ModelNotFound(
            f"{model_name} has no version {name}; train one with `candlecast train --candles FILE`, or name a "
            "number or an alias of the registry"
        )
    bundle, _ = load_version(registry, model_name, number, settings.models_dir)
    return bundle, number
