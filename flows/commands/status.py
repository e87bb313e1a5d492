"""`candlecast status`: one screen about a platform, from the parts that answer."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from candlecast.errors import CandlecastError, ExchangeError, StackError
from candlecast.job_runs import last_check, newest_job_runs
from candlecast.market import price_text
from candlecast.settings.settings import Settings
from flows.jobs.market import OpenMarket, open_market, open_service
from flows.local.disk import full_disk_notice
from flows.local.supervision import Supervisor


def read_status(settings: Settings) -> dict[str, Any]:
    """Return the figures of the parts; a part that does not answer has an `error` instead."""
    found: dict[str, Any] = {
        "home": str(settings.home),
        "market": settings.market.model_name,
        "source": settings.source,
        "processes": _processes(settings),
        "disk": full_disk_notice(settings.home) if settings.home.exists() else None,
        "served": _served(settings),
        "others": {},
    }
    try:
        with open_market(settings, timeout_s=2) as market:
            found |= _figures(market)
            for other in settings.all_markets[1:]:
                figures = _figures(market.of(other))
                found["others"][other.model_name] = figures | {"served": _served(settings.of(other))}
    except (CandlecastError, psycopg.Error) as exc:
        found["error"] = str(exc)
    return found


def _processes(settings: Settings) -> dict[str, str]:
    with suppress(StackError):
        states = Supervisor(settings.home).states()
        return {name: f"{one.state.lower()}, {one.description}" for name, one in states.items()}
    return {}


def _served(settings: Settings) -> dict[str, Any]:
    try:
        with open_service(settings) as service:
            models = service.model(settings.market).models
    except CandlecastError as exc:
        return {"error": str(exc)}
    return {alias: {"version": one.version, "since": one.served_since} for alias, one in models.items()}


def _figures(market: OpenMarket) -> dict[str, Any]:
    symbol, interval, _ = market.market
    now: datetime | None = None
    with suppress(ExchangeError):
        now = market.exchange.server_time()
    newest = market.store.latest_open_time(symbol, interval)
    forecast = market.ledger.newest_forecast()
    return {
        "exchange_clock": now,
        "newest_candle": newest,
        "candle_age_s": (now - newest - market.market.step).total_seconds() if now and newest else None,
        "forecast": forecast,
        "check": last_check(market.pool, market.market),
        "jobs": newest_job_runs(market.pool, market.market),
    }


def print_status(found: dict[str, Any], prefect: str) -> None:
    """Print the figures of `read_status` for people, and the address and login of Prefect's UI."""
    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("[bold]market", f"{found['market']}, source {found['source']}, home {found['home']}")
    table.add_row("[bold]Prefect", prefect)
    processes = found["processes"] or {"none": "the platform is not up: `candlecast up` starts it"}
    table.add_row("[bold]processes", "\n".join(f"{name:<10}{state}" for name, state in processes.items()))
    if found["disk"]:
        table.add_row("[bold]disk", f"[red]{found['disk']}")
    if "error" in found:
        table.add_row("[bold]database", f"[red]{found['error']}")
        _add_served(table, found["served"])
    else:
        clock = (
            f"{found['exchange_clock']:%F %T}" if found["exchange_clock"] else "[red]the exchange does not answer[/]"
        )
        table.add_row("[bold]exchange clock", clock)
        _add_figures(table, found)
    for name, figures in found["others"].items():
        table.add_row("", "")
        table.add_row("[bold]market", name)
        _add_figures(table, figures)
    console.print(table)


def _add_served(table: Table, served: dict[str, Any]) -> None:
    if "error" in served:
        table.add_row("[bold]served", f"[red]{served['error']}")
        return
    lines = [f"{alias}: version {one['version']} since {one['since']:%F %T}" for alias, one in served.items()]
    table.add_row("[bold]served", "\n".join(lines) or "no model yet")


def _add_figures(table: Table, found: dict[str, Any]) -> None:
    newest, age = found["newest_candle"], found["candle_age_s"]
    fresh = f", closed {age:.0f} s ago" if age is not None else ""
    table.add_row("[bold]newest candle", f"{newest:%F %T}{fresh}" if newest else "none stored")
    forecast = found["forecast"]
    if forecast:
        table.add_row(
            "[bold]newest forecast",
            f"for {forecast['open_time']:%F %T}: close {price_text(forecast['close'])}, up "
            f"{100 * forecast['probability_up']:.1f} %, version {forecast['model_version']}",
        )
    check = found["check"]
    if check:
        performance = check["numbers"]["performance"]
        figures = ""
        if performance:
            figures = (
                f"\nlast {performance['n']} settled: MAPE {performance['mape']:.4f} %, persistence "
                f"{performance['baseline_mape']:.4f} %, skill {100 * performance['skill']:+.2f} %, direction "
                f"{100 * performance['direction_accuracy']:.1f} %"
            )
        table.add_row("[bold]last check", f"{check['verdict']} at {check['checked_at']:%F %T}{figures}")
    jobs = [f"{one['job']:<10}{one['status']:<10}{one['started_at']:%F %T}" for one in found["jobs"]]
    table.add_row("[bold]last runs", "\n".join(jobs) or "none")
    _add_served(table, found["served"])
