"""Driving the loop over recorded candles with a stepped clock, as fast as the machine allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from candlecast.candles import floor_time
from candlecast.client import ForecastClient
from candlecast.errors import ConfigurationError
from candlecast.issue import issue_forecasts
from candlecast.journal import recorded_job
from candlecast.registry import CHAMPION
from candlecast.replay_control import ReplayControl
from candlecast.settings import Settings
from flows import loop
from flows.home_processes import single_instance, stop_leftovers
from flows.local_stack import LocalStack, free_ports, wait_for
from flows.market import OpenMarket, open_market, open_registry, open_service, serves
from flows.messages import train_message
from flows.source import recorded_market, replay_begin
from monitoring.check import check
from monitoring.performance import rolling_performance
from training.versions import pass_gate, train_version

Tell = Callable[[str], None]

_AFTER_CLOSE = timedelta(seconds=2)


class Simulated(NamedTuple):
    """What a simulation did."""

    candles: int
    forecasts: int
    settled: int


def simulate(
    market: OpenMarket,
    control: ReplayControl,
    service: ForecastClient,
    end: datetime,
    on_candle: Callable[[datetime], None],
) -> Simulated:
    """Step the replay exchange candle by candle to `end`, doing at each close what ingest does.

    The functions are the ones that the flows call; only Prefect is left out. The clock stands still while a
    candle is worked on. Whoever is interrupted goes on from where the clock stands.

    Args:
        on_candle: Told each moment that was worked off.
    """
    control.set(speed=0)
    now = control.state().now
    close = floor_time(now, market.market.interval) + market.market.step
    candles = forecasts = settled = 0
    while close <= end:
        control.set(close + _AFTER_CLOSE)
        synced = loop.sync(market).synced
        settled += loop.settle(market, synced.start)
        issued = issue_forecasts(
            market.exchange, market.store, market.quality, market.ledger, service, market.market, source="replay"
        )
        candles, forecasts = candles + synced.written.inserted, forecasts + len(issued.forecasts)
        on_candle(close)
        close += market.market.step
    return Simulated(candles, forecasts, settled)


class Simulation(NamedTuple):
    """Outcome of `simulate_span`."""

    message: str
    figures: dict[str, float | int | None]


def simulate_span(settings: Settings, start: datetime | None, end: datetime | None, tell: Tell) -> Simulation:
    """Run the loop over recorded candles on a platform of its own below HOME; an interrupted one goes on.

    Database, registry, exchange and service are real; trainings happen when the checks ask for them.

    Args:
        start: First forecast; default: as soon as there is history enough.
        end: Last forecast; default: a day later.

    Raises:
        ConfigurationError: The recording does not reach that far.
    """
    market = settings.market
    first, last = recorded_market(market)
    begin = start or replay_begin(settings, (first, last))
    until = end or begin + timedelta(days=1)
    if not first < begin < until <= last:
        raise ConfigurationError(f"{begin} to {until}: the recording goes from {first} to {last}")
    home = settings.home / "simulations" / f"{market.model_name}-{begin:%Y%m%dT%H%M}"
    names = ("service_port", "mlflow_port", "prefect_port", "database_port", "exchange_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    private = settings.model_copy(update={"home": home, "source": "replay", "database_url": None, **ports})
    with single_instance(home):
        stop_leftovers(home)
        stack = LocalStack(private, begin)
        try:
            return _simulate_on(stack, until, tell)
        finally:
            stack.stop()


def _simulate_on(stack: LocalStack, until: datetime, tell: Tell) -> Simulation:
    settings = stack.settings
    tell("starting database, registry, exchange and service")
    stack.launch()
    stack.start_database()
    stack.start("mlflow", "service")
    stack.start_replay()
    stack.wait_until_up("mlflow", f"{settings.mlflow_tracking_uri}/health")
    stack.wait_until_up("service", f"{settings.service_url}/livez")
    with (
        open_market(settings) as market,
        ReplayControl(settings.binance_url) as control,
        open_service(settings) as service,
    ):
        now = market.exchange.server_time()
        loop.backfill(market, None, None, lambda stored: tell(f"stored up to {stored:%F %T}"))
        if CHAMPION not in open_registry(settings).aliases(settings.market.model_name):
            _train(market, service, now, tell)

        def after_candle(close: datetime) -> None:
            tell(f"{close:%F %T}")
            if close.minute == 0:
                found = check(settings, market.pool, open_registry(settings), close, with_report=False)
                if found.verdict.action == "train":
                    _train(market, service, close, tell)

        began = time.monotonic()
        done = simulate(market, control, service, until, after_candle)
        elapsed_s = time.monotonic() - began
        performance = rolling_performance(market.ledger.settled("champion", done.candles or 1))
    figures = {**done._asdict(), "candles_per_s": round(done.candles / elapsed_s, 1)}
    if performance:
        figures |= performance._asdict()
    return Simulation("\n".join(f"{name}: {value}" for name, value in figures.items()), figures)


def _train(market: OpenMarket, service: ForecastClient, now: datetime, tell: Tell) -> None:
    settings = market.settings
    registry = loop.training_registry(settings)
    with recorded_job(market.pool, "train", settings.market, clock=lambda: now) as report:
        candles = market.history(now)
        trained = train_version(candles, settings, registry, tell)
        decision = pass_gate(candles, trained.number, settings, registry, market.pool)
        report.message = train_message(trained, decision, market.left_out(now))
    if decision.promoted:
        wait_for(lambda: serves(service, trained.number), 60, f"version {trained.number} at {settings.service_url}")
