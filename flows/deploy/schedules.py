"""The schedules of the deployments, fitted to the markets and to the exchange's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from candlecast.market import Market, floor_time
from candlecast.replay.control import ReplayControl
from candlecast.settings.settings import Settings
from flows.deploy.deployment import deployments, prefect_client
from flows.jobs.market import OpenMarket

MARKETS_PER_RUN = 20
"""Most markets of one run of ingest or monitor; starting a run takes longer than its work for one market."""

_MONITOR_EVERY = timedelta(minutes=15)
_SHORTEST_PERIOD = timedelta(seconds=5)
_DAY = timedelta(days=1)
_AFTER_FINAL = timedelta(seconds=1)


def clock_speed(settings: Settings) -> float:
    """Return the exchange seconds per real second."""
    return settings.exchange.replay_speed if settings.source == "replay" else 1.0


def start_schedules(market: OpenMarket) -> datetime:
    """Start a replay's clock and fit every schedule to the exchange's clock; return the exchange's time."""
    settings = market.settings
    if settings.source == "replay":
        with ReplayControl(settings.exchange.binance_url) as control:
            control.set(speed=settings.exchange.replay_speed)
    now = market.exchange.server_time()
    guard = settings.exchange.finality_guard
    fit_schedules(settings.prefect_api_url, settings.all_markets, now, clock_speed(settings), guard)
    return now


def fit_schedules(
    api_url: str, markets: Sequence[Market], exchange_now: datetime, speed: float, guard: timedelta
) -> None:
    """Start every schedule in step with the exchange's clock: ingest runs as soon as a candle is final.

    One run of ingest or monitor serves up to MARKETS_PER_RUN markets of an interval. The other flows run for one market
    at a time, spread over their period.

    Args:
        markets: Markets that are forecast, all of one horizon.
        speed: Exchange seconds per real second; 1 except on the replay source.
        guard: Time between the close of a candle and its storage, on the exchange's clock.
    """
    from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
    from prefect.client.schemas.schedules import IntervalSchedule

    now = datetime.now(UTC)

    def schedule(slug: str, period: timedelta, first: datetime, parameters: dict[str, Any]) -> DeploymentScheduleUpdate:
        every = IntervalSchedule(interval=period, anchor_date=first)
        return DeploymentScheduleUpdate(schedule=every, active=True, slug=slug, parameters=parameters)

    def for_groups(every: timedelta | None = None) -> Iterator[DeploymentScheduleUpdate]:
        for alike in _market_groups(markets):
            market = alike[0]
            final = floor_time(exchange_now, market.interval) + market.step + guard
            first = now + (final - exchange_now) / speed + _AFTER_FINAL if every is None else now + _real(every, speed)
            names = [f"{one.symbol}-{one.interval}" for one in alike]
            parameters = {"markets": names, "horizon": market.horizon} if len(alike) > 1 else market._asdict()
            yield schedule(_slug(market), _real(every or market.step, speed), first, parameters)

    def for_each_market() -> Iterator[DeploymentScheduleUpdate]:
        period = _real(_DAY, speed)
        for number, market in enumerate(markets):
            first = now + period * (1 + number / len(markets))
            yield schedule(_slug(market), period, first, market._asdict())

    fitted = {"ingest": list(for_groups()), "monitor": list(for_groups(_MONITOR_EVERY))}
    with prefect_client(api_url) as client:
        for name, deployment in deployments(client).items():
            schedules = fitted.get(name) or list(for_each_market())
            client.update_deployment(deployment.id, DeploymentUpdate(schedules=schedules))
            for former in deployment.schedules:
                if former.slug not in {one.slug for one in schedules}:
                    client.delete_deployment_schedule(deployment.id, former.id)
            client.resume_deployment(deployment.id)


def _market_groups(markets: Sequence[Market]) -> Iterator[tuple[Market, ...]]:
    """Yield the markets of each interval, up to MARKETS_PER_RUN at a time."""
    for interval in dict.fromkeys(market.interval for market in markets):
        alike = [market for market in markets if market.interval == interval]
        yield from (tuple(alike[at : at + MARKETS_PER_RUN]) for at in range(0, len(alike), MARKETS_PER_RUN))


def _slug(market: Market) -> str:
    return market.model_name.lower()


def _real(period: timedelta, speed: float) -> timedelta:
    return max(period / speed, _SHORTEST_PERIOD)
