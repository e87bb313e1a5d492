"""The schedules of the deployments, fitted to the markets and to the exchange's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from math import gcd
from typing import TYPE_CHECKING, Any
from uuid import UUID

from candlecast.market import Market, floor_time, interval_duration
from candlecast.replay.control import ReplayControl
from candlecast.settings.settings import Settings
from flows.deploy.deployment import FLOWS, deployments, prefect_client
from flows.jobs.market import OpenMarket

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleUpdate

MARKETS_PER_RUN = 20
"""Most markets of one run of ingest or monitor; starting a run takes longer than its work for one market."""

_MONITOR_EVERY = timedelta(minutes=15)
_SHORTEST_PERIOD = timedelta(seconds=5)
_DAY = timedelta(days=1)
_AFTER_FINAL = timedelta(seconds=1)
_APART = timedelta(minutes=1)
_COARSEST = "15m"  # longer intervals close on its grid


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
    at a time, spread over their period. All but ingest begin between two closes, so that no forecast waits for them.

    Args:
        markets: Markets that are forecast.
        speed: Exchange seconds per real second; 1 except on the replay source.
        guard: Time between the close of a candle and its storage, on the exchange's clock.
    """
    now = datetime.now(UTC)  # before the imports, which take seconds on a busy machine
    from prefect.client.schemas.actions import DeploymentScheduleUpdate
    from prefect.client.schemas.schedules import IntervalSchedule

    steps = {interval_duration(interval) for interval in (_COARSEST, *(one.interval for one in markets))}
    grid = f"{gcd(*(step // timedelta(minutes=1) for step in steps))}m"

    def between_closes(moment: datetime) -> datetime:
        apart = floor_time(moment, grid) + min(interval_duration(grid) / 2, _APART)
        return now + (apart - exchange_now) / speed

    def schedule(slug: str, period: timedelta, first: datetime, parameters: dict[str, Any]) -> DeploymentScheduleUpdate:
        every = IntervalSchedule(interval=period, anchor_date=first)
        return DeploymentScheduleUpdate(schedule=every, active=True, slug=slug, parameters=parameters)

    def for_groups(every: timedelta | None = None) -> Iterator[DeploymentScheduleUpdate]:
        for number, alike in enumerate(_market_groups(markets)):
            market = alike[0]
            if every is None:
                final = floor_time(exchange_now, market.interval) + market.step + guard
                first = now + (final - exchange_now) / speed + _AFTER_FINAL
            else:
                first = between_closes(exchange_now + every + number * interval_duration(grid))
            yield schedule(_slug(market), _real(every or market.step, speed), first, _group_parameters(alike))

    def for_each_market() -> Iterator[DeploymentScheduleUpdate]:
        period = _real(_DAY, speed)
        for number, market in enumerate(markets):
            first = between_closes(exchange_now + _DAY * (1 + number / len(markets)))
            yield schedule(_slug(market), period, first, market._asdict())

    fitted = {"ingest": list(for_groups()), "monitor": list(for_groups(_MONITOR_EVERY))}
    with prefect_client(api_url) as client:
        for name, deployment in deployments(client).items():
            _set_schedules(client, deployment.id, fitted.get(name) or list(for_each_market()))
            client.resume_deployment(deployment.id)


@contextmanager
def restored_on_failure(api_url: str) -> Iterator[frozenset[str]]:
    """Yield the names of the deployments that run; if the block fails, all get back their schedules and run on."""
    from prefect.client.schemas.actions import DeploymentScheduleUpdate
    from prefect.exceptions import ObjectNotFound

    former = {}
    with prefect_client(api_url) as client:
        for name in FLOWS:
            with suppress(ObjectNotFound):  # before the first deployment
                former[name] = client.read_deployment_by_name(f"{name}/{name}")
    try:
        yield frozenset(name for name, deployment in former.items() if not deployment.paused)
    except BaseException:
        with prefect_client(api_url) as client:
            for deployment in former.values():
                schedules = [
                    DeploymentScheduleUpdate(
                        schedule=one.schedule, active=one.active, slug=one.slug, parameters=one.parameters
                    )
                    for one in deployment.schedules
                ]
                _set_schedules(client, deployment.id, schedules)
                go_on = client.pause_deployment if deployment.paused else client.resume_deployment
                go_on(deployment.id)
        raise


def _set_schedules(client: SyncPrefectClient, deployment_id: UUID, schedules: list[DeploymentScheduleUpdate]) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    before = client.read_deployment(deployment_id).schedules
    client.update_deployment(deployment_id, DeploymentUpdate(schedules=schedules))
    for one in before:
        if one.slug not in {wanted.slug for wanted in schedules}:
            client.delete_deployment_schedule(deployment_id, one.id)


def ingest_parameters(markets: Sequence[Market]) -> list[dict[str, Any]]:
    """Return the parameters of each run of ingest that the markets need."""
    return [_group_parameters(alike) for alike in _market_groups(markets)]


def _group_parameters(alike: Sequence[Market]) -> dict[str, Any]:
    return {"markets": [one.model_name for one in alike]} if len(alike) > 1 else alike[0]._asdict()


def _market_groups(markets: Sequence[Market]) -> Iterator[tuple[Market, ...]]:
    """Yield the markets of each interval, up to MARKETS_PER_RUN at a time."""
    for interval in dict.fromkeys(market.interval for market in markets):
        alike = [market for market in markets if market.interval == interval]
        yield from (tuple(alike[at : at + MARKETS_PER_RUN]) for at in range(0, len(alike), MARKETS_PER_RUN))


def _slug(market: Market) -> str:
    return market.model_name.lower()


def _real(period: timedelta, speed: float) -> timedelta:
    return max(period / speed, _SHORTEST_PERIOD)
