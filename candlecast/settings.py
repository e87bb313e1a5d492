"""The settings: a root and groups, what each means, and the names under which each is set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from candlecast.market import Market
from candlecast.setting_rules import (
    absolute,
    fixed_length,
    long_enough,
    origins,
    postgresql_address,
    separated,
    web_address,
    well_named,
)

PREFIX = "CANDLECAST_"
_FOREIGN_VARIABLES = {"mlflow_tracking_uri": "MLFLOW_TRACKING_URI", "prefect_api_url": "PREFECT_API_URL"}
_NAMED_WITH_GROUP = {"port", "url", "owner_url", "reader_url", "weight_budget", "timeout_s"}
"""Fields whose variable names their group too: CANDLECAST_SERVICE_PORT, but CANDLECAST_EPOCHS."""

_DatabaseUrl = Annotated[
    SecretStr | None,
    AfterValidator(postgresql_address),
    Field(examples=["postgresql://user:password@host:5432/candlecast"]),
]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


def _on_this_machine(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class ExchangeSettings(_Group):
    """Settings of the exchange, its archive and the replay exchange."""

    binance_url: str = "https://api.binance.com,https://data-api.binance.vision"
    """Base addresses of the exchange's REST API, tried in order, separated by commas."""
    archive_url: str = "https://data.binance.vision"
    """Base address of the exchange's archive of monthly and daily files."""
    weight_budget: int = Field(3000, ge=20, le=6000)
    """Request weight a minute that all callers together use of Binance's 6000."""
    timeout_s: float = Field(10, gt=0)
    """Limit on one exchange request, in seconds."""
    finality_guard_s: float = Field(1, ge=0, le=60)
    """Seconds since its close, on the exchange's clock, before a candle is stored."""
    port: int = 8900
    """Port of the replay exchange."""
    replay_speed: float = Field(10, ge=0)
    """Exchange seconds per real second on the replay source; 0 stops the clock."""

    @property
    def finality_guard(self) -> timedelta:
        """Time between the close of a candle and its storage."""
        return timedelta(seconds=self.finality_guard_s)


class DatabaseSettings(_Group):
    """Settings of PostgreSQL."""

    url: _DatabaseUrl = None
    """Address of PostgreSQL for candles and forecasts, as the writer. Default: the embedded server."""
    owner_url: _DatabaseUrl = None
    """Address of that database as its owner, for migrations. Default: DATABASE_URL."""
    reader_url: _DatabaseUrl = None
    """Address of that database as a read-only role, for the service. Default: DATABASE_URL."""
    port: int = 5442
    """Port of the embedded PostgreSQL."""


class ServiceSettings(_Group):
    """Settings of the forecast service."""

    port: int = 3000
    """Port of the forecast service."""
    url: str = Field(default_factory=lambda read: _on_this_machine(read["port"]))
    """Address of the forecast service. Default: SERVICE_PORT on this machine."""
    api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(separated), AfterValidator(long_enough)] = ()
    """Keys of 16 or more characters that the service accepts, separated by commas; without any, no key is asked for."""
    rate_limit_per_minute: float = Field(0, ge=0)
    """Requests a minute that the service accepts from one API key, or from one address; 0 is any number."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(separated), AfterValidator(origins)] = ()
    """Origins whose pages may call the service, separated by commas; * is every one."""
    access_log: bool = True
    """Whether the service logs a line of JSON for every request."""
    model_expiry_hours: float = Field(1440, gt=0)
    """Hours past its training span when a model abstains."""
    model_poll_s: float = Field(2, gt=0)
    """Seconds between two reads of the registry's aliases."""
    drain_s: float = Field(1, ge=0)
    """Seconds that the service still answers after it was asked to stop."""

    @property
    def first_api_key(self) -> SecretStr | None:
        """The key that the platform's own flows send."""
        return self.api_keys[0] if self.api_keys else None


class TrainingSettings(_Group):
    """Settings of training, of when it runs, and of promotion by the gate."""

    sequence_length: int = Field(24, ge=2)
    """Feature rows in one model input window."""
    model_family: Literal["lstm", "gru"] = "lstm"
    """Trunk of the network: lstm or gru."""
    units: int = Field(64, ge=1)
    """Width of the network's range trunk; its price trunks have half of it. Below 50,000 candles half of it, and one
    price trunk instead of three."""
    epochs: int = Field(6, ge=1)
    """Most passes over the training windows."""
    batch_size: int = Field(1024, ge=1)
    """Windows per optimiser step, fewer for a short history."""
    learning_rate: float = Field(2e-3, gt=0)
    """Adam's first step size."""
    patience: int = Field(3, ge=1)
    """Epochs without a better stopping loss before training ends."""
    recency_half_life_days: float = Field(365, gt=0)
    """Age at which a training window counts half."""
    seed: int = 7
    """Seed of everything random in training."""
    train_min_hours: float = Field(12, ge=0)
    """Shortest time between two trainings."""
    train_max_hours: float = Field(24, gt=0)
    """Longest time between two trainings."""
    promote_at_once: bool = False
    """Whether a version that passes the gate becomes champion without a trial."""


class MonitoringSettings(_Group):
    """Settings of drift checks, trials and alerts."""

    rolling_n: int = Field(288, ge=2)
    """Settled forecasts in the rolling error."""
    mape_threshold: float = Field(0.8, gt=0)
    """Rolling MAPE of the close, in percent, that means drift."""
    mape_ratio_threshold: float = Field(1.05, gt=0)
    """Rolling MAPE over persistence's that means drift."""
    trial_forecasts: int = Field(288, ge=2)
    """Settled forecasts of champion and challenger before a trial may promote the challenger."""
    webhook_url: Annotated[SecretStr | None, AfterValidator(web_address)] = Field(None, examples=["https://host/path"])
    """Address that alerts are posted to as JSON; without one, alerts are only recorded."""


class RetentionSettings(_Group):
    """Settings of what `housekeeping` keeps."""

    runs_kept_days: float = Field(90, ge=1)
    """Days that records of runs are kept: Prefect's, MLflow's without a version, and our own."""
    versions_kept: int = Field(30, ge=1)
    """Newest model versions kept; those that a rollback may need stay beyond that."""
    reports_kept_days: float = Field(7, gt=0)
    """Days that Evidently reports are kept."""


class Settings(_Group):
    """All settings of a process, read once where a process or task starts and passed down.

    Sources, strongest first: arguments; environment variables; the file candlecast.toml (in the working directory, or
    the file that CANDLECAST_CONFIG names); HOME/stack.json, in which `candlecast up` leaves the addresses of its
    programs; the defaults. A variable may also be written with its group, as in CANDLECAST_TRAINING_EPOCHS.
    """

    home: Annotated[Path, AfterValidator(absolute)] = Path(".candlecast")
    """The one directory of all local state."""
    markets: Annotated[tuple[str, ...], BeforeValidator(separated), AfterValidator(well_named)] = ()
    """Every market that is forecast, separated by commas, as in BTCUSDT-5m,ETHUSDT-15m. Default: the one of SYMBOL and
    INTERVAL."""
    symbol: str = Field(default_factory=lambda read: _first_market(read).symbol)
    """Symbol of the default market, in the exchange's spelling. Default: the first of MARKETS, else BTCUSDT."""
    interval: Annotated[str, AfterValidator(fixed_length)] = Field(
        default_factory=lambda read: _first_market(read).interval
    )
    """Candle length of the default market: 1m, 5m, 15m, 1h, ... Default: the first of MARKETS, else 5m."""
    horizon: int = Field(1, ge=1)
    """How many candles ahead the forecast looks."""
    lookback_days: float = Field(90, gt=0)
    """History that backfill keeps and training uses, in days."""
    source: Literal["auto", "binance", "replay"] = "auto"
    """Where candles come from; auto is Binance if it answers, else the recorded candles."""
    mlflow_port: int = 5000
    """Port of MLflow."""
    prefect_port: int = 4200
    """Port of the Prefect server."""
    evidently_port: int = 8010
    """Port of Evidently's UI."""
    mlflow_tracking_uri: str = Field(default_factory=lambda read: _on_this_machine(read["mlflow_port"]))
    """Address of MLflow. Default: MLFLOW_PORT on this machine."""
    prefect_api_url: str = Field(default_factory=lambda read: _on_this_machine(read["prefect_port"]) + "/api")
    """Address of the Prefect API. Default: PREFECT_PORT on this machine."""
    evidently_url: str = Field(default_factory=lambda read: _on_this_machine(read["evidently_port"]))
    """Address of Evidently's UI, for links to reports. Default: EVIDENTLY_PORT on this machine."""
    dask_scheduler: str | None = Field(None, examples=["tcp://host:8786"])
    """Address of the Dask scheduler that runs the folds of a walk-forward. Default: processes on this machine."""
    exchange: ExchangeSettings = ExchangeSettings()
    database: DatabaseSettings = DatabaseSettings()
    service: ServiceSettings = ServiceSettings()
    training: TrainingSettings = TrainingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    retention: RetentionSettings = RetentionSettings()

    @property
    def market(self) -> Market:
        """The market that this process works on by default."""
        return Market(self.symbol, self.interval, self.horizon)

    @property
    def all_markets(self) -> tuple[Market, ...]:
        """Every market of the platform, `market` first, whether MARKETS names it or not."""
        named = (Market.named(name, self.horizon) for name in self.markets)
        return tuple(dict.fromkeys((self.market, *named)))

    @property
    def models_dir(self) -> Path:
        """Where bundles of registered versions are kept."""
        return self.home / "models"

    @property
    def trained_dir(self) -> Path:
        """Where bundles trained from files are kept; they are in no registry."""
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

    def value(self, name: str) -> Any:
        """Return a value by the name of its setting, such as `epochs` or `service_port`."""
        setting = known_settings()[name]
        return getattr(getattr(self, setting.group) if setting.group else self, setting.field)

    def changed(self, **values: Any) -> Settings:
        """Return these settings with other values, by the names of the settings; the values are not checked."""
        update = {
            key: getattr(self, key).model_copy(update=value) if key in groups() else value
            for key, value in nested(values).items()
        }
        return self.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as messages, documentation and `candlecast settings` show it.

    Attributes:
        name: Unique name, such as `epochs` or `service_port`.
        group: Table of candlecast.toml and attribute of `Settings`; empty at the root.
        field: Key in that table and attribute of that group.
        variable: Environment variable that is documented.
        default: Default value as text; empty if there is none.
        example: Default value as candlecast.toml would hold it, or some value if there is none.
        description: What the setting means.
        secret: Whether the value must not be shown.
    """

    name: str
    group: str
    field: str
    variable: str
    default: str
    example: str
    description: str
    secret: bool

    @property
    def key(self) -> str:
        """Key in candlecast.toml, with its table."""
        return f"{self.group}.{self.field}" if self.group else self.field

    @property
    def variables(self) -> tuple[str, ...]:
        """Every environment variable that sets it, strongest first."""
        return tuple(dict.fromkeys((self.variable, f"{PREFIX}{self.key.replace('.', '_').upper()}")))


@cache
def groups() -> Mapping[str, type[_Group]]:
    """Return the groups of `Settings` by name."""
    classes = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, _Group)}


@cache
def known_settings() -> Mapping[str, Setting]:
    """Return every setting by name: those of the root first, then group by group."""
    found, defaults = {}, Settings()
    kinds: dict[str, type[_Group]] = {"": Settings, **groups()}
    for group, kind in kinds.items():
        part = getattr(defaults, group) if group else defaults
        for field, about in kind.model_fields.items():
            if not group and field in groups():
                continue
            default = getattr(part, field) if about.default_factory else about.default
            example = (about.examples or [default])[0]
            name = f"{group}_{field}" if group and field in _NAMED_WITH_GROUP else field
            found[name] = Setting(
                name,
                group,
                field,
                _FOREIGN_VARIABLES.get(name, f"{PREFIX}{name.upper()}"),
                as_text(default),
                json.dumps(example, default=str),
                " ".join((about.description or "").split()),
                "SecretStr" in str(about.annotation),
            )
    return found


def variable_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return known_settings()[name].variable


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange values by name of setting as `Settings` does: root fields, and a dict a group."""
    arranged: dict[str, Any] = {}
    for name, value in values.items():
        setting = known_settings()[name]
        (arranged.setdefault(setting.group, {}) if setting.group else arranged)[setting.field] = value
    return arranged


def as_text(value: object) -> str:
    """Return a value as an environment variable would hold it, without secrets and without passwords of addresses."""
    if isinstance(value, tuple):
        return ",".join(map(as_text, value))
    return "" if value is None else re.sub(r"//[^/@]*@", "//**********@", str(value))


def _first_market(read: Mapping[str, Any]) -> Market:
    named = read.get("markets", ())  # missing if it was refused
    return Market.named(named[0]) if named else Market("BTCUSDT", "5m")
