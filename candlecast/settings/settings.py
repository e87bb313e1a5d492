"""All settings of a process, and the names under which each is set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr

from candlecast.errors import ConfigurationError, without_logins
from candlecast.market import LONGEST_HORIZON, Market
from candlecast.settings.groups import (
    DatabaseSettings,
    ExchangeSettings,
    MonitoringSettings,
    PartAddress,
    Port,
    RetentionSettings,
    ServiceSettings,
    SettingsGroup,
    TrainingSettings,
    on_this_machine,
)
from candlecast.settings.limits import MarketLimits, market_limits
from candlecast.settings.recipes import Recipes
from candlecast.settings.rules import (
    LONGEST_DAYS,
    absolute,
    exchange_spelling,
    first_horizon,
    first_market,
    fixed_length,
    separated,
    well_named,
)

PREFIX = "CANDLECAST_"
_FOREIGN_VARIABLES = {
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "prefect_api_url": "PREFECT_API_URL",
    "prefect_login": "PREFECT_API_AUTH_STRING",
}
_NAMED_WITH_GROUP = {"port", "url", "owner_url", "reader_url", "weight_budget", "timeout_s"}
"""Fields whose variable names their group too: CANDLECAST_SERVICE_PORT, but CANDLECAST_EPOCHS."""


class Settings(SettingsGroup):
    """All settings of a process, read once where a process or task starts and passed down.

    Sources, strongest first: arguments; environment variables; in the file candlecast.toml (in the working directory,
    or the file that CANDLECAST_CONFIG names) the table of the market, then that of the group; HOME/stack.json, in which
    `candlecast up` leaves the addresses of its programs; the defaults. A variable may also be written with its group,
    as in CANDLECAST_TRAINING_EPOCHS.
    """

    home: Annotated[Path, AfterValidator(absolute)] = Path(".candlecast")
    """The one directory of all local state."""
    markets: Annotated[tuple[str, ...], BeforeValidator(separated), AfterValidator(well_named)] = ()
    """Every market that is forecast, separated by commas, as in BTCUSDT-5m,BTCUSDT-1m-h15. Default: each table
    [markets.NAME] of candlecast.toml; without tables the one of SYMBOL, INTERVAL and HORIZON. Without tables, a name
    without a horizon has that of HORIZON."""
    symbol: Annotated[str, AfterValidator(exchange_spelling)] = Field(
        default_factory=lambda read: first_market(read).symbol
    )
    """Symbol of the default market, in the exchange's spelling. Default: the first of MARKETS, else BTCUSDT."""
    interval: Annotated[str, AfterValidator(fixed_length)] = Field(
        default_factory=lambda read: first_market(read).interval
    )
    """Candle length of the default market: 1w, or one that divides a day, such as 1m, 5m, 1h or 1d. Default: the
    interval of the first of MARKETS, else 5m."""
    horizon: int = Field(default_factory=first_horizon, ge=1, le=LONGEST_HORIZON)
    """How many candles ahead the forecast of the default market looks. Default: the horizon of the first of MARKETS
    with its symbol and interval, else 1."""
    lookback_days: float | None = Field(None, gt=0, le=LONGEST_DAYS, examples=[90])
    """History that backfill keeps and training uses, in days. Default: by interval and horizon."""
    source: Literal["auto", "binance", "replay"] = "auto"
    """Source of candles; auto is Binance if it answers, else the recorded candles."""
    mlflow_port: Port = 5000
    """Port of MLflow."""
    prefect_port: Port = 4200
    """Port of the Prefect server."""
    evidently_port: Port = 8010
    """Port of Evidently's UI."""
    mlflow_tracking_uri: str = Field(default_factory=lambda read: on_this_machine(read["mlflow_port"]))
    """Address of MLflow. Default: MLFLOW_PORT on this machine."""
    prefect_api_url: PartAddress = Field(default_factory=lambda read: on_this_machine(read["prefect_port"]) + "/api")
    """Address of the Prefect API. Default: PREFECT_PORT on this machine."""
    prefect_login: SecretStr | None = Field(None, examples=["candlecast:password"])
    """Login of Prefect's API and UI, as name:password. `candlecast up` makes one and keeps it in HOME."""
    evidently_url: PartAddress = Field(default_factory=lambda read: on_this_machine(read["evidently_port"]))
    """Address of Evidently's UI, for links to reports. Default: EVIDENTLY_PORT on this machine."""
    dask_scheduler: str | None = Field(None, examples=["tcp://host:8786"])
    """Address of the Dask scheduler that runs the folds of a walk-forward. Default: processes on this machine."""
    exchange: ExchangeSettings = ExchangeSettings()
    database: DatabaseSettings = DatabaseSettings()
    service: ServiceSettings = ServiceSettings()
    training: TrainingSettings = TrainingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    retention: RetentionSettings = RetentionSettings()
    _recipes: Recipes = PrivateAttr(default_factory=Recipes)

    @property
    def market(self) -> Market:
        """The market that these settings apply to."""
        return Market(self.symbol, self.interval, self.horizon)

    @property
    def limits(self) -> MarketLimits:
        """Times and counts of `market` that follow from its interval and horizon unless they are set."""
        return market_limits(self.market, self.lookback_days, self.service, self.training, self.monitoring)

    @property
    def all_markets(self) -> tuple[Market, ...]:
        """Every market of the platform, `market` first, whether MARKETS names it or not."""
        return tuple(dict.fromkeys((self.market, *map(Market.named, self.markets))))

    def of(self, market: Market) -> Settings:
        """Return the settings that apply to a market, with its table of candlecast.toml in place."""
        return self._updated(self._recipes.values_of(market) | market._asdict())

    def with_recipes(self, recipes: Recipes) -> Settings:
        """Return the settings of `market` with the values of single markets."""
        copy = self.model_copy()
        copy._recipes = recipes
        return copy.of(self.market)

    @property
    def own_values(self) -> Mapping[str, Mapping[str, Any]]:
        """Values of the settings that single markets have their own of, by name of the market and of the setting."""
        return {one.model_name: values for one in self.all_markets if (values := self._recipes.values_of(one))}

    def find_market(
        self,
        name: str | None = None,
        symbol: str | None = None,
        interval: str | None = None,
        horizon: int | None = None,
    ) -> Market:
        """Return the market with a name, or with a symbol, interval and horizon.

        A missing symbol or interval is that of `market`. A missing horizon is the first configured one of symbol and
        interval, else that of `market`.

        Raises:
            ConfigurationError: The name is malformed, or a part differs from it.
        """
        parts = {"symbol": symbol, "interval": interval, "horizon": horizon}
        if name is None:
            series = (self.symbol if symbol is None else symbol, self.interval if interval is None else interval)
            if horizon is None and series != self.market[:2]:
                horizon = next((one.horizon for one in self.all_markets if one[:2] == series), None)
            return Market(*series, self.horizon if horizon is None else horizon)
        market = Market.named(name)
        for part, value in parts.items():
            if value is not None and value != getattr(market, part):
                raise ConfigurationError(f"market {name} and {part} {value} differ: give one of them, or equal ones")
        return market

    @property
    def models_dir(self) -> Path:
        """Directory of the bundles of registered versions."""
        return self.home / "models"

    @property
    def trained_dir(self) -> Path:
        """Directory of the bundles trained from files; they are in no registry."""
        return self.home / "trained"

    @property
    def scratch_dir(self) -> Path:
        """Directory of work in progress; `candlecast up` clears it."""
        return self.home / "scratch"

    @property
    def reports_dir(self) -> Path:
        """Directory of Evidently's reports."""
        return self.home / "reports"

    @property
    def evidently_dir(self) -> Path:
        """The workspace that Evidently's UI shows."""
        return self.home / "evidently"

    def value(self, name: str) -> Any:
        """Return a value by the name of its setting, such as `epochs` or `service_port`."""
        setting = known_settings()[name]
        return getattr(getattr(self, setting.group) if setting.group else self, setting.field)

    def effective(self, name: str) -> Any:
        """Return the value that applies to `market`: the one that is set, else the one by interval and horizon."""
        value = self.value(name)
        return self.limits.by_setting.get(name) if value is None else value

    def changed(self, **values: Any) -> Settings:
        """Return these settings with other values for all markets, by the names of the settings.

        The values are not checked.
        """
        copy = self._updated(values)
        copy._recipes = self._recipes.without(values)
        return copy

    def _updated(self, values: Mapping[str, Any]) -> Settings:
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
def groups() -> Mapping[str, type[SettingsGroup]]:
    """Return the groups of `Settings` by name."""
    classes = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, SettingsGroup)}


@cache
def known_settings() -> Mapping[str, Setting]:
    """Return every setting by name: those of the root first, then group by group."""
    found, defaults = {}, Settings()
    kinds: dict[str, type[SettingsGroup]] = {"": Settings, **groups()}
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


def as_variables(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from the defaults as environment variables, without secrets."""
    texts = {name: as_text(settings.value(name)) for name in known_settings()}
    return {
        one.variable: texts[name]
        for name, one in known_settings().items()
        if not one.secret and texts[name] != one.default
    }


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
    return "" if value is None else without_logins(str(value))
