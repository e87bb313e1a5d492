"""The programs of the local platform: their commands and environments."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from candlecast.settings.file import CONFIG_VARIABLE, config_file
from candlecast.settings.settings import Settings, variable_name
from flows.deploy.deployment import WORK_POOL
from flows.deploy.schedules import clock_speed
from flows.local.supervisord_config import Program

HOST = "127.0.0.1"
DATABASE_ROLES = {
    "database_url": "candlecast_writer",
    "database_owner_url": "candlecast_owner",
    "database_reader_url": "candlecast_reader",
}
"""Role of each database address, by field of `Settings`."""

_ROOT = Path(__file__).parents[2]

# No telemetry, and no notices of TensorFlow.
_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # version 2 of the UI calls an analytics host in any case
    "BENTOML_DO_NOT_TRACK": "True",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def local_urls(settings: Settings) -> dict[str, str]:
    """Return the addresses of the parts that `up` runs, by field of `Settings`."""
    return {
        "service_url": f"http://{HOST}:{settings.service.port}",
        "mlflow_tracking_uri": f"http://{HOST}:{settings.mlflow_port}",
        "prefect_api_url": f"http://{HOST}:{settings.prefect_port}/api",
        "evidently_url": f"http://{HOST}:{settings.evidently_port}",
    }


def stack_values(settings: Settings) -> dict[str, str]:
    """Return the settings that describe this platform and its addresses, passwords included, by field name."""
    values = {
        "source": settings.source,
        "replay_speed": str(settings.exchange.replay_speed),
        "binance_url": settings.exchange.binance_url,
        "archive_url": settings.exchange.archive_url,
        "service_url": settings.service.url,
        "mlflow_tracking_uri": settings.mlflow_tracking_uri,
        "prefect_api_url": settings.prefect_api_url,
        "evidently_url": settings.evidently_url,
        "allowed_hosts": ",".join(settings.service.allowed_hosts),
    }
    for field in (*DATABASE_ROLES, "prefect_login"):
        secret: SecretStr | None = settings.value(field)
        if secret is not None:
            values[field] = secret.get_secret_value()
    return values


def prefect_access(settings: Settings) -> str:
    """Return the address of Prefect's UI, and the login to enter there."""
    login = settings.prefect_login
    enter = f"  (enter {login.get_secret_value()})" if login else ""
    return f"{settings.prefect_api_url.removesuffix('/api')}{enter}"


def addresses(settings: Settings) -> dict[str, str]:
    """Return `stack_values` as environment variables, and the directories of libraries' own files."""
    variables = {variable_name(field): value for field, value in stack_values(settings).items()}
    return variables | {
        "CANDLECAST_HOME": str(settings.home),
        CONFIG_VARIABLE: str(config_file() or ""),  # programs and flow runs have other working directories
        # By default these libraries write below the user's home directory.
        "PREFECT_HOME": str(settings.home / "prefect"),
        "BENTOML_HOME": str(settings.home / "bentoml"),
        "KERAS_HOME": str(settings.home / "keras"),
        "MPLCONFIGDIR": str(settings.home / "matplotlib"),
    }


def local_programs(
    settings: Settings,
    mlflow_store: str,
    replay_start: datetime | None,
    recordings: Path | None,
    more: Mapping[str, str] | None = None,
) -> list[Program]:
    """Return every program except PostgreSQL, in the order of their dependencies.

    Args:
        settings: Settings with the address of every part.
        replay_start: First time of the replay exchange's clock if it never ran.
        recordings: Directory of recordings that the replay exchange serves; None for those of the project.
        more: The settings as variables of every program, which then reads no candlecast.toml but the one that they
            name. None if the programs read them as this process did.
    """
    home, environment = settings.home, {**_QUIET, **(more or {}), **addresses(settings)}
    if more is not None:
        environment[CONFIG_VARIABLE] = more.get(CONFIG_VARIABLE, "")
    prefect = environment | {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Without these the UI requests its API on the default port.
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        # A client that creates a deployment can run programs, so clients need the login, and pages of other sites none.
        "PREFECT_SERVER_API_AUTH_STRING": settings.prefect_login.get_secret_value() if settings.prefect_login else "",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": settings.prefect_api_url.removesuffix("/api"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": str(_prefetch_s(settings)),
        # The server deletes old runs with their logs and artifacts; by default it keeps all of them.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(round(settings.retention.runs_kept_days * 86_400)),
    }
    reader = settings.database.reader_url or settings.database.url
    # uvicorn would accept X-Forwarded-For from this machine; the setting TRUSTED_PROXIES decides.
    service = (
        environment
        | {"FORWARDED_ALLOW_IPS": ""}
        | (dict.fromkeys(_DATABASE_VARIABLES, reader.get_secret_value()) if reader else {})
    )
    # At speed 0 the clock waits for `up`, also after a restart (flows/local/clock_watch.py).
    replay = f"exchange --port {settings.exchange.port} --speed 0 --state"
    replay_from = [f"--start={replay_start:%Y-%m-%dT%H:%M:%S}"] if replay_start else []
    replay_from += [f"--recordings={recordings}"] if recordings else []
    at = f"--host {HOST} --port"
    return [
        Program(
            "mlflow",
            _command(
                "mlflow",
                f"server {at} {settings.mlflow_port} --workers 1 --artifacts-destination",
                (home / "mlflow" / "artifacts").as_uri(),  # MLflow would decode %20 in a plain path
            ),
            environment | {"MLFLOW_BACKEND_STORE_URI": mlflow_store},
        ),
        Program("prefect", _console("prefect", settings.prefect_port), prefect),
        Program(
            "exchange", _command("flows.cli", replay, str(home / "exchange-clock.json"), *replay_from), environment
        ),
        Program(
            "service",
            _command(
                "bentoml",
                # Seconds after the drain for clients that read their answers slowly.
                f"serve service.service:Candlecast {at} {settings.service.port} --timeout-graceful-shutdown 10 "
                "--working-dir",
                str(_ROOT),
            ),
            service,
            stop_wait_s=20,
        ),
        Program(
            "worker",
            _command("prefect", f"worker start --pool {WORK_POOL} --name local --limit 4"),
            # Prefect's folder /tmp/runner_storage belongs to the first user of a machine who starts a worker.
            prefect | {"TMPDIR": str(settings.scratch_dir)},
            stop_wait_s=20,
        ),
        Program("evidently", _console("evidently", settings.evidently_port), environment),
    ]


def _prefetch_s(settings: Settings) -> int:
    """Return the seconds before a run is due at which its process starts: by default 10, too few on a busy machine.

    A process that waits takes a place of the worker, so more than 10 is at most a third of the time between two closes.
    """
    shortest = min(market.step for market in settings.all_markets) / (clock_speed(settings) or 1)
    return int(min(max(shortest.total_seconds() / 3, 10), 30))


_DATABASE_VARIABLES = [variable_name(field) for field in DATABASE_ROLES]


def _console(name: str, port: int) -> list[str]:
    """Return the command of an application in `flows/local/consoles.py`."""
    return _command("uvicorn", f"--factory flows.local.consoles:{name} --host {HOST} --port {port} --log-level warning")


def _command(module: str, words: str, *more: str) -> list[str]:
    """Return the command of a module for this process's interpreter; `more` may contain blanks."""
    return [sys.executable, "-P", "-m", module, *words.split(), *more]
