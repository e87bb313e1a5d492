"""Environment variables that a program reads, and secrets made up for an installation."""

from __future__ import annotations

import functools
import importlib.util
import re
from types import ModuleType

from candlecast.settings.settings import known_settings
from tests.support.manifests import K8S


@functools.cache
def known_variables() -> set[str]:
    """Every variable that Candlecast, or a program that it runs, reads."""
    from mlflow import environment_variables as of_mlflow
    from mlflow.cli import server
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_settings_fields
    from prefect_kubernetes.settings import KubernetesObserverSettings, KubernetesWorkerSettings

    kubernetes = "PREFECT_INTEGRATIONS_KUBERNETES"
    return {
        *(variable for setting in known_settings().values() for variable in setting.variables),
        *re.findall(r"\b[A-Z]+_PASSWORD\b", (K8S / "components/postgres/init.sh").read_text()),
        "CANDLECAST_CONFIG",  # the file of settings
        *("POSTGRES_USER", "POSTGRES_PASSWORD"),  # PostgreSQL's image
        *_get_settings_fields(PrefectSettings),
        *(f"{kubernetes}_OBSERVER_{name.upper()}" for name in KubernetesObserverSettings.model_fields),
        *(f"{kubernetes}_WORKER_{name.upper()}" for name in KubernetesWorkerSettings.model_fields),
        *(name for name in dir(of_mlflow) if name.startswith("MLFLOW_")),
        *(str(option.envvar) for option in server.params if option.envvar),
        *("BENTOML_HOME", "BENTOML_DO_NOT_TRACK", "KERAS_HOME", "MPLCONFIGDIR", "DO_NOT_TRACK", "TF_CPP_MIN_LOG_LEVEL"),
    }


def made_secrets() -> ModuleType:
    """The script that makes passwords up."""
    spec = importlib.util.spec_from_file_location("make_secrets", K8S / "make_secrets.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
