"""`candlecast up`: the whole platform on one machine, until Ctrl-C."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import httpx
import psycopg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from candlecast.errors import CandlecastError, ConfigurationError, ExchangeError, StackError
from candlecast.market import Market, floor_time, price_text
from candlecast.registry.promotion import current_versions
from candlecast.registry.registry import CHAMPION, Registry, experiment_name
from candlecast.replay.control import ReplayControl
from candlecast.settings.settings import Settings
from candlecast.settings.sources import STACK_FILE, home_directory, load_settings
from flows.deploy.cluster import has_champion
from flows.deploy.deployment import deploy, follow, run_now, tidy_up
from flows.deploy.schedules import start_schedules
from flows.jobs.market import OpenMarket, open_market, open_registry, open_service, served_versions
from flows.jobs.stepping import step_replay
from flows.local.clock_watch import ClockWatch
from flows.local.disk import full_disk_notice
from flows.local.home_processes import single_instance, stop_leftovers
from flows.local.interruption import interrupted_by_sigterm, refuse_interrupts
from flows.local.programs import addresses, prefect_access
from flows.local.source import WARM_UP, recorded_markets, replay_begin, replay_end, resolve_source, store_source
from flows.local.stack import LocalStack, refuse_foreign_addresses, remove_partial_files, wait_for
from flows.local.supervision import pause_while_running

_SERVED_S = 60.0
_LOOK_S = 2.0


def up(console: Console) -> None:
    """Start every part, bring data and model up to date, then report until interrupted.

    Raises:
        AlreadyRunning: Another `up` runs in this home.
        StackError: A part did not start; names its log.
    """
    home = home_directory()
    with single_instance(home), interrupted_by_sigterm():
        (home / STACK_FILE).unlink(missing_ok=True)  # addresses of an earlier run must not become settings
        settings = resolve_source(load_settings())
        refuse_foreign_addresses(settings)
        replay_start, recorded = None, {}
        if settings.source == "replay":
            if not settings.exchange.replay_speed:
                raise ConfigurationError("CANDLECAST_REPLAY_SPEED=0 stops the replay's clock: set a speed above 0")
            recorded = recorded_markets(settings)
            replay_start = replay_begin(settings, recorded)
        store_source(settings)
        _announce_source(console, settings)
        if notice := full_disk_notice(home):
            console.print(f"[bold red]{notice}", soft_wrap=True)
        if recorded:
            console.print(f"Recorded time begins at {replay_start:%F %R} and ends at {replay_end(recorded):%F %R} UTC.")
        stop_leftovers(home)
        remove_partial_files(settings)
        stack = LocalStack(settings, replay_start)
        os.environ |= addresses(stack.settings)  # before the import of Prefect's client, which reads its home then
        try:
            _bring_up(console, stack)
            _report_until_interrupted(console, stack)
        except KeyboardInterrupt:
            console.print("\nstopping ...")
        finally:
            refuse_interrupts()
            stack.stop()
            console.print("everything is stopped; `make up` continues where it was")


def _announce_source(console: Console, settings: Settings) -> None:
    if settings.source == "replay":
        console.rule("[bold yellow]REPLAY: recorded candles, not the market")
        console.print(
            f"Candles come from the recording that ships with the project, through the replay exchange, at "
            f"{settings.exchange.replay_speed:g} times the speed of the market. The page, the ledger and "
            "`candlecast status` show it too."
        )
    else:
        console.rule("[bold green]LIVE: candles of Binance")


def _bring_up(console: Console, stack: LocalStack) -> None:
    settings = stack.settings
    stack.launch()
    with _step(console, "PostgreSQL, migrations"):
        stack.start_database()
    with _step(console, "MLflow, Prefect, service" + (", replay exchange" if settings.source == "replay" else "")):
        stack.start("mlflow", "prefect", "service")
        if settings.source == "replay":
            stack.start_replay()
        stack.wait_until_up("mlflow", f"{settings.mlflow_tracking_uri}/health")
        stack.wait_until_up("prefect", f"{settings.prefect_api_url}/health")
        stack.wait_until_up("service", f"{settings.service.url}/livez")
    with _step(console, "deployments, worker"):
        tidy_up(settings.prefect_api_url)
        deploy(settings.prefect_api_url, addresses(settings))
        stack.start("worker")
    registry = open_registry(settings)
    served = {market: _catch_up(console, stack, registry, market) for market in settings.all_markets}
    with open_market(settings) as market:
        if stack.replay_start is not None and served[settings.market]:
            _run_warm_up(console, market, stack.replay_start + WARM_UP)
        start_schedules(market)
    _run(console, stack, "ingest")
    stack.start("evidently")  # last: it needs seconds of CPU time to start, and no other part uses it
    run_now(settings.prefect_api_url, "monitor")


def _catch_up(console: Console, stack: LocalStack, registry: Registry, market: Market) -> bool:
    """Fetch the history of a market and train a version if it has none of this build; return whether one is served."""
    settings, name, parameters = stack.settings, market.model_name, market._asdict()
    registry.end_lost_runs(experiment_name(market))
    _run(console, stack, "backfill", parameters)
    if not has_champion(settings, registry, market):
        _run(console, stack, "train", parameters | {"force": True})
    with open_market(settings) as opened:
        champion, _, unaliased = current_versions(registry, opened.pool, name)
    if champion is None or unaliased:
        without = f"no version of {name} has passed the gate: there are no forecasts until one does"
        console.print(f"[bold red]{unaliased or without}")
        return False
    try:
        with _step(console, f"service loads {name} version {champion}"), open_service(settings) as service:
            wait_for(
                lambda: served_versions(service, market).get(CHAMPION) == champion.number,
                _SERVED_S,
                f"{name} version {champion} at {settings.service.url}",
            )
    except StackError as exc:
        log = stack.supervisor.log_path("service")
        console.print(f"[bold red]{escape(str(exc))}; see {log}: there are no forecasts of {name} until it is served")
        return False
    return True


def _run_warm_up(console: Console, market: OpenMarket, end: datetime) -> None:
    """Run the loop quickly through the recorded candles up to `end`, so that the ledger has forecasts."""
    settings = market.settings
    with ReplayControl(settings.exchange.binance_url) as control, open_service(settings) as service:
        now = control.state().now
        if now >= end:
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            total = int((end - floor_time(now, settings.interval)) / market.market.step)
            candles = progress.add_task("recorded day, candle by candle", total=total)
            step_replay(market, control, service, end, lambda _: progress.advance(candles))


def _run(console: Console, stack: LocalStack, name: str, parameters: dict[str, object] | None = None) -> None:
    """Run a deployment and wait, showing its newest log line; a failure is reported and does not stop `up`."""
    api_url = stack.settings.prefect_api_url
    try:
        with _step(console, name) as report:
            follow(api_url, run_now(api_url, name, parameters), report, pause_while_running(stack.supervisor, "worker"))
    except StackError as exc:
        console.print(f"  [bold red]failed[/] {escape(str(exc))}; its schedule will retry")


def _report_until_interrupted(console: Console, stack: LocalStack) -> None:
    """Print the addresses, then each new forecast, a full disk, and each program that keeps failing.

    A program that keeps failing is started again.
    """
    settings = stack.settings
    _print_addresses(console, settings)
    reported_failures: set[str] = set()
    reported_forecasts: dict[Market, datetime] = {}
    reported_disk: str | None = None
    with open_market(settings) as market:
        clock = ClockWatch(market)
        while True:
            with suppress(CandlecastError, psycopg.OperationalError):  # the database may be restarting: try again
                for one in settings.all_markets:
                    forecast = market.of(one).ledger.newest_forecast()
                    if forecast is not None and forecast["open_time"] != reported_forecasts.get(one):
                        reported_forecasts[one] = forecast["open_time"]
                        name = f"{one.model_name} " if len(settings.all_markets) > 1 else ""
                        console.print(name + _forecast_line(forecast), soft_wrap=True)
            notice = full_disk_notice(settings.home)
            if (notice is None) != (reported_disk is None):
                console.print(f"[bold red]{notice}" if notice else "the disk has space again", soft_wrap=True)
            reported_disk = notice
            failed = stack.supervisor.retry_failed()  # the cause may be gone, such as a full disk
            for name in failed - reported_failures:
                log = stack.supervisor.log_path(name)
                console.print(f"[bold red]{name} keeps failing and is started again; see {log}")
            running = {one.name for one in stack.supervisor.states().values() if one.state == "RUNNING"}
            reported_failures = (reported_failures | failed) - running
            with suppress(ExchangeError, httpx.HTTPError):  # no answer now: try again
                clock.look(console)
            time.sleep(_LOOK_S)


def _print_addresses(console: Console, settings: Settings) -> None:
    console.rule("[bold]Candlecast is up")
    for what, address in (
        ("page, forecasts, API reference", f"{settings.service.url}/  {settings.service.url}/docs"),
        ("Prefect: flows and their runs", prefect_access(settings)),
        ("MLflow: runs, versions, aliases", settings.mlflow_tracking_uri),
        ("Evidently: inputs and errors", settings.evidently_url),
    ):
        console.print(f"  {what:<34}{address}", highlight=False, soft_wrap=True)
    for other in settings.all_markets[1:]:
        page = f"{settings.service.url}/?market={other.model_name}"
        console.print(f"  {'page of ' + other.model_name:<34}{page}", highlight=False, soft_wrap=True)
    console.print("  Ctrl-C stops everything; the next start continues.\n")


def _forecast_line(forecast: dict[str, Any]) -> str:
    return (
        f"{forecast['open_time']:%Y-%m-%d %H:%M} UTC: close {price_text(forecast['close'])} "
        f"(90 %: {price_text(forecast['close_lower'])} to {price_text(forecast['close_upper'])}), "
        f"amplitude {price_text(forecast['amplitude'], forecast['close'])}, "
        f"up {100 * forecast['probability_up']:.1f} %, version {forecast['model_version']}, "
        f"issued {forecast['issued_at']:%H:%M:%S}"
    )


@contextmanager
def _step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Show a running step and, on a terminal, its newest activity; at its end show its duration."""
    started = time.monotonic()
    with console.status(title, spinner="line") as status:

        def update(activity: str) -> None:
            if console.is_terminal:
                status.update(f"{title}: {escape(activity)[: console.width - len(title) - 6]}")

        yield update
    console.print(f"  [green]done[/] {title} ({time.monotonic() - started:.1f} s)", highlight=False)
