"""Groups of settings: a class and a table of candlecast.toml for each."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from candlecast.settings.rules import (
    LONGEST_DAYS,
    folder_or_directory,
    long_enough,
    networks,
    origins,
    part_addresses,
    postgresql_address,
    separated,
    tcp_port,
    web_address,
)

_DatabaseUrl = Annotated[
    SecretStr | None,
    AfterValidator(postgresql_address),
    Field(examples=["postgresql://user:password@host:5432/candlecast"]),
]


Port = Annotated[int, AfterValidator(tcp_port)]
PartAddress = Annotated[str, AfterValidator(part_addresses)]


class SettingsGroup(BaseModel):
    """A table of settings; the text below a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


def on_this_machine(port: int) -> str:
    """Return the address of a port of this machine."""
    return f"http://127.0.0.1:{port}"


class ExchangeSettings(SettingsGroup):
    """Settings of the exchange, its archive and the replay exchange."""

    binance_url: PartAddress = "https://api.binance.com,https://data-api.binance.vision"
    """Base addresses of the exchange's REST API, tried in order, separated by commas."""
    archive_url: PartAddress = "https://data.binance.vision"
    """Base address of the exchange's archive of monthly and daily files."""
    weight_budget: int = Field(3000, ge=20, le=6000)
    """Request weight a minute that all callers together use of Binance's 6000."""
    timeout_s: float = Field(10, gt=0)
    """Limit on one exchange request, in seconds."""
    finality_guard_s: float = Field(1, ge=0, le=60)
    """Seconds since its close, on the exchange's clock, before a candle is stored."""
    port: Port = 8900
    """Port of the replay exchange."""
    replay_speed: float = Field(10, ge=0, allow_inf_nan=False)
    """Exchange seconds per real second on the replay source; 0 stops the clock."""

    recording: Annotated[str | None, AfterValidator(folder_or_directory)] = Field(None, examples=["minutes"])
    """Recorded candles that the replay source serves beside BTCUSDT-5m: minutes, which ships with the project, or a
    directory of SYMBOL-INTERVAL.parquet files."""

    @property
    def finality_guard(self) -> timedelta:
        """Time between the close of a candle and its storage."""
        return timedelta(seconds=self.finality_guard_s)


class DatabaseSettings(SettingsGroup):
    """Settings of PostgreSQL."""

    url: _DatabaseUrl = None
    """Address of PostgreSQL for candles and forecasts, as the writer. Default: the embedded server."""
    owner_url: _DatabaseUrl = None
    """Address of that database as its owner, for migrations. Default: DATABASE_URL."""
    reader_url: _DatabaseUrl = None
    """Address of that database as a read-only role, for the service. Default: DATABASE_URL."""
    port: Port = 5442
    """Port of the embedded PostgreSQL."""


class ServiceSettings(SettingsGroup):
    """Settings of the forecast service."""

    port: Port = 3000
    """Port of the forecast service."""
    url: PartAddress = Field(default_factory=lambda read: on_this_machine(read["port"]))
    """Address of the forecast service. Default: SERVICE_PORT on this machine."""
    api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(separated), AfterValidator(long_enough)] = ()
    """Keys of 16 or more characters that the service accepts, separated by commas; without any, no key is asked for."""
    rate_limit_per_minute: float = Field(0, ge=0)
    """Requests a minute that the service accepts from one API key, or from one address; 0 is any number."""
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(networks)] = ()
    """Addresses or networks of proxies, separated by commas, whose X-Forwarded-For names the client for the rate limit
    and the log. From others the header is ignored."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(separated), AfterValidator(origins)] = ()
    """Origins whose pages may call the service, separated by commas; * is every one."""
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(separated)] = ("*",)
    """Names in the Host header that the service answers to, separated by commas; * is every one. Addresses in digits
    and localhost are always answered. `candlecast up` allows no others."""
    access_log: bool = True
    """Whether the service logs a line of JSON for every request."""
    model_expiry_hours: float | None = Field(None, gt=0, le=24 * LONGEST_DAYS, examples=[1440])
    """Hours past its training span when a model abstains. Default: by interval and horizon."""
    model_poll_s: float = Field(2, gt=0)
    """Seconds between two reads of the registry's aliases."""
    drain_s: float = Field(1, ge=0)
    """Seconds that the service still answers after it was asked to stop."""

    @property
    def first_api_key(self) -> SecretStr | None:
        """The key that the platform's own flows send."""
        return self.api_keys[0] if self.api_keys else None


class TrainingSettings(SettingsGroup):
    """Settings of training, of when it runs, and of promotion by the gate."""

    features: Literal["base", "indicators"] = "base"
    """Feature set of new models: base, for networks, or indicators, for trees of one row."""
    sequence_length: int = Field(24, ge=1)
    """Feature rows in one model input window."""
    model_family: Literal["lstm", "gru", "xgboost"] = "lstm"
    """Family of the model: networks of lstm or gru, or xgboost, gradient-boosted trees."""
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
    recency_half_life_days: float | None = Field(None, gt=0, le=LONGEST_DAYS, examples=[365])
    """Age at which a training window counts half, in days. Default: by interval and horizon."""
    seed: int = 7
    """Seed of everything random in training."""
    train_min_hours: float | None = Field(None, ge=0, le=24 * LONGEST_DAYS, examples=[12])
    """Shortest time between two trainings in hours, at least that of 4 candles. Default: by interval and horizon."""
    train_max_hours: float | None = Field(None, gt=0, le=24 * LONGEST_DAYS, examples=[24])
    """Longest time between two trainings in hours, at least the shortest. Default: by interval and horizon."""
    promote_at_once: bool = False
    """Whether a version that the gate compared with the champion becomes champion without a trial. The gate finds it
    not worse than the champion; it need not be better."""


class MonitoringSettings(SettingsGroup):
    """Settings of drift checks, trials and alerts."""

    rolling_n: int | None = Field(None, ge=2, examples=[288])
    """Settled forecasts in the rolling error. Checks judge that of 36 times the horizon at least. Default: by interval
    and horizon."""
    mape_threshold: float = Field(0.8, gt=0)
    """Rolling MAPE of the close, in percent, that means drift of candles of 5 minutes, one ahead. For others it grows
    with the square root of the time ahead, as the moves of prices do."""
    mape_ratio_threshold: float = Field(1.05, gt=0)
    """Rolling MAPE over persistence's that means drift."""
    trial_forecasts: int | None = Field(None, ge=2, examples=[288])
    """Settled forecasts of champion and challenger before a trial may promote the challenger by proof. Default: by
    interval and horizon."""
    webhook_url: Annotated[SecretStr | None, AfterValidator(web_address)] = Field(None, examples=["https://host/path"])
    """Address that alerts are posted to as JSON; without one, alerts are only recorded."""
    heartbeat_url: Annotated[SecretStr | None, AfterValidator(web_address)] = Field(
        None, examples=["https://host/path"]
    )
    """Address that `ingest` requests after each successful run; a service there alerts when the requests stop."""
    backup_heartbeat_url: Annotated[SecretStr | None, AfterValidator(web_address)] = Field(
        None, examples=["https://host/path"]
    )
    """Address that `backup` requests after each successful backup; a service there alerts when the requests stop."""


class RetentionSettings(SettingsGroup):
    """Settings of what `housekeeping` keeps."""

    runs_kept_days: float = Field(90, ge=1, le=LONGEST_DAYS)
    """Days that records of runs are kept: Prefect's, MLflow's without a version, and our own."""
    versions_kept: int = Field(30, ge=1)
    """Newest model versions kept; those that a rollback may need stay beyond that."""
    reports_kept_days: float = Field(7, gt=0, le=LONGEST_DAYS)
    """Days that Evidently reports are kept."""
