"""Settings of every process, read from the environment when one is built."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, JsonConfigSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.setting_rules import (
    absolute,
    fixed_length,
    listed,
    long_enough,
    origins,
    postgresql_address,
    web_address,
    well_named,
)

STACK_FILE = "stack.json"


class Settings(BaseSettings):
    """One frozen view of the environment; build it where a process or task starts and pass it down.

    Sources, strongest first: arguments, environment variables (`CANDLECAST_` plus the field's name,
    except where a description says otherwise), the file `HOME/stack.json` in which `candlecast up`
    leaves the addresses of the platform it runs, and the defaults below.
    """

    model_config = SettingsConfigDict(env_prefix="CANDLECAST_", frozen=True, extra="ignore", populate_by_name=True)

    home: Annotated[Path, AfterValidator(absolute)] = Field(
        Path(".candlecast"), description="The one directory of all local state."
    )
    markets: Annotated[str, AfterValidator(well_named)] = Field(
        "",
        description="Every market that is forecast, separated by commas, as in BTCUSDT-5m,ETHUSDT-15m. Default: the "
        "one of SYMBOL and INTERVAL.",
    )
    symbol: str = Field(
        default_factory=lambda read: _first_market(read).symbol,
        description="Market that is meant where none is named, in the exchange's spelling. Default: the first of "
        "MARKETS, else BTCUSDT.",
    )
    interval: Annotated[str, AfterValidator(fixed_length)] = Field(
        default_factory=lambda read: _first_market(read).interval,
        description="Its candle length: 1m, 5m, 15m, 1h, ... Default: that of the first of MARKETS, else 5m.",
    )
    horizon: int = Field(1, ge=1, description="How many candles ahead the forecast looks.")
    sequence_length: int = Field(24, ge=2, description="Feature rows in one model input window.")
    lookback_days: float = Field(90, gt=0, description="History that backfill keeps and training uses, in days.")

    source: Literal["auto", "binance", "replay"] = Field(
        "auto", description="Where candles come from; auto is Binance if it answers, else the recorded candles."
    )
    binance_url: str = Field(
        "https://api.binance.com,https://data-api.binance.vision",
        description="Base addresses of the exchange's REST API, tried in order, separated by commas.",
    )
    archive_url: str = Field(
        "https://data.binance.vision", description="Base address of the exchange's archive of monthly and daily files."
    )
    exchange_weight_budget: int = Field(
        3000, ge=20, le=6000, description="Request weight a minute that all callers together use of Binance's 6000."
    )
    exchange_timeout_s: float = Field(10, gt=0, description="Limit on one exchange request, in seconds.")
    finality_guard_s: float = Field(
        1, ge=0, le=60, description="Seconds since its close, on the exchange's clock, before a candle is stored."
    )
    replay_speed: float = Field(
        10, ge=0, description="Exchange seconds per real second on the replay source; 0 lets its clock stand still."
    )

    service_port: int = Field(3000, description="Port of the forecast service.")
    mlflow_port: int = Field(5000, description="Port of MLflow.")
    prefect_port: int = Field(4200, description="Port of the Prefect server.")
    database_port: int = Field(5442, description="Port of the embedded PostgreSQL.")
    exchange_port: int = Field(8900, description="Port of the replay exchange.")
    evidently_port: int = Field(8010, description="Port of Evidently's UI.")
    service_url: str = Field(
        default_factory=lambda ports: f"http://127.0.0.1:{ports['service_port']}",
        description="Address of the forecast service. Default: SERVICE_PORT on this machine.",
    )
    mlflow_tracking_uri: str = Field(
        default_factory=lambda ports: f"http://127.0.0.1:{ports['mlflow_port']}",
        validation_alias="MLFLOW_TRACKING_URI",
        description="Address of MLflow, without prefix. Default: MLFLOW_PORT on this machine.",
    )
    prefect_api_url: str = Field(
        default_factory=lambda ports: f"http://127.0.0.1:{ports['prefect_port']}/api",
        validation_alias="PREFECT_API_URL",
        description="Address of the Prefect API, without prefix. Default: PREFECT_PORT on this machine.",
    )
    evidently_url: str = Field(
        default_factory=lambda ports: f"http://127.0.0.1:{ports['evidently_port']}",
        description="Address of Evidently's UI, for links to reports. Default: EVIDENTLY_PORT on this machine.",
    )
    dask_scheduler: str | None = Field(
        None,
        description="Address of the Dask scheduler that runs the folds of a walk-forward, such as tcp://host:8786. "
        "Default: processes on this machine.",
    )
    database_url: Annotated[SecretStr | None, AfterValidator(postgresql_address)] = Field(
        None, description="PostgreSQL for candles and forecasts, as the writer. Default: the embedded server."
    )
    database_owner_url: Annotated[SecretStr | None, AfterValidator(postgresql_address)] = Field(
        None, description="The same database as its owner, for migrations. Default: DATABASE_URL."
    )
    database_reader_url: Annotated[SecretStr | None, AfterValidator(postgresql_address)] = Field(
        None, description="The same database as a read-only role, for the service. Default: DATABASE_URL."
    )

    api_keys: Annotated[SecretStr | None, AfterValidator(long_enough)] = Field(
        None,
        description="Keys of 16 or more characters that the service asks for, separated by commas; empty asks nobody.",
    )
    rate_limit_per_minute: float = Field(
        0,
        ge=0,
        description="Requests a minute that the service takes of one API key, or of one address; 0 is any number.",
    )
    cors_origins: Annotated[str, AfterValidator(origins)] = Field(
        "", description="Origins whose pages may call the service, separated by commas; * is every one."
    )
    access_log: bool = Field(True, description="Whether the service logs a line of JSON for every request.")

    model_family: Literal["lstm", "gru"] = Field("lstm", description="Trunk of the network: lstm or gru.")
    units: int = Field(
        64,
        ge=1,
        description="Width of the network's range trunk; its price trunks have half of it. Below 50,000 candles half "
        "of it, and one price trunk instead of three.",
    )
    epochs: int = Field(6, ge=1, description="Most passes over the training windows.")
    batch_size: int = Field(1024, ge=1, description="Windows per optimiser step, fewer for a short history.")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's first step size.")
    patience: int = Field(3, ge=1, description="Epochs without a better stopping loss before training ends.")
    recency_half_life_days: float = Field(365, gt=0, description="Age at which a training window counts half.")
    seed: int = Field(7, description="Seed of everything random in training.")

    train_min_hours: float = Field(12, ge=0, description="Shortest time between two trainings.")
    train_max_hours: float = Field(24, gt=0, description="Longest time between two trainings.")
    rolling_n: int = Field(288, ge=2, description="Settled forecasts in the rolling error.")
    mape_threshold: float = Field(0.8, gt=0, description="Rolling MAPE of the close, in percent, that means drift.")
    mape_ratio_threshold: float = Field(1.05, gt=0, description="Rolling MAPE over persistence's that means drift.")
    trial_forecasts: int = Field(
        288, ge=2, description="Settled forecasts of champion and challenger before a trial may promote the challenger."
    )
    promote_at_once: bool = Field(False, description="Whether what passes the gate becomes champion without a trial.")
    webhook_url: Annotated[SecretStr | None, AfterValidator(web_address)] = Field(
        None, description="Address that alerts are posted to as JSON; empty tells nobody."
    )
    model_expiry_hours: float = Field(1440, gt=0, description="Hours past its training span when a model abstains.")
    model_poll_s: float = Field(2, gt=0, description="Seconds between two looks at the registry's aliases.")
    drain_s: float = Field(1, ge=0, description="Seconds that a service which was told to stop goes on answering.")
    runs_kept_days: float = Field(
        90, ge=1, description="Days that records of runs are kept: Prefect's, MLflow's without a version, and our own."
    )
    versions_kept: int = Field(
        30, ge=1, description="Newest model versions kept; those that a rollback may need stay beyond that."
    )
    reports_kept_days: float = Field(7, gt=0, description="Days that Evidently reports are kept.")

    @property
    def market(self) -> Market:
        """What this process works on unless told otherwise."""
        return Market(self.symbol, self.interval, self.horizon)

    @property
    def all_markets(self) -> tuple[Market, ...]:
        """Every market of the platform, `market` first, whether MARKETS names it or not."""
        named = (Market.named(name, self.horizon) for name in listed(self.markets))
        return tuple(dict.fromkeys((self.market, *named)))

    @property
    def api_key_list(self) -> tuple[str, ...]:
        """The keys that the service asks for; empty if it asks for none."""
        return listed(self.api_keys.get_secret_value() if self.api_keys else "")

    @property
    def first_api_key(self) -> SecretStr | None:
        """The key that the platform's own flows send."""
        keys = self.api_key_list
        return SecretStr(keys[0]) if keys else None

    @property
    def cors_origin_list(self) -> tuple[str, ...]:
        """Origins whose pages may call the service."""
        return listed(self.cors_origins)

    @property
    def finality_guard(self) -> timedelta:
        """Time that a closed candle is left to settle before it is stored."""
        return timedelta(seconds=self.finality_guard_s)

    @property
    def models_dir(self) -> Path:
        """Where bundles of registered versions are kept."""
        return self.home / "models"

    @property
    def trained_dir(self) -> Path:
        """Where bundles trained from files are kept; no registry knows them."""
        return self.home / "trained"

    @property
    def scratch_dir(self) -> Path:
        """Where work in progress lies; `candlecast up` clears it."""
        return self.home / "scratch"

    @property
    def reports_dir(self) -> Path:
        """Where Evidently reports are kept."""
        return self.home / "reports"

    @property
    def evidently_dir(self) -> Path:
        """The workspace that Evidently's UI shows."""
        return self.home / "evidently"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put `HOME/stack.json` behind the environment; HOME itself comes from the environment only."""
        stack_file = home_directory() / STACK_FILE
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, json_file=stack_file)


def _first_market(read: dict[str, Any]) -> Market:
    named = listed(read.get("markets", ""))  # missing if it was refused
    return Market.named(named[0]) if named else Market("BTCUSDT", "5m")


def home_directory() -> Path:
    """HOME as the environment has it, before any other setting is read."""
    return Path(os.environ.get("CANDLECAST_HOME", ".candlecast")).expanduser().absolute()


def variable_name(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"CANDLECAST_{field.upper()}"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Raises:
        ConfigurationError: A variable is malformed; names it, its value's fault and the remedy.
    """
    try:
        return Settings(**overrides)
    except json.JSONDecodeError as exc:
        file = home_directory() / STACK_FILE
        raise ConfigurationError(f"{file} is damaged: {exc}. `candlecast up` writes it anew.") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        variable = name if name.isupper() else f"CANDLECAST_{name.upper()}"
        # Not "from exc": its text quotes values, and a value may be a password.
        raise ConfigurationError(f"{variable}: {first['msg']}. Correct the variable, or unset it.") from None
