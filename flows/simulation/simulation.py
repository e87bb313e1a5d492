"""The loop over recorded candles with a stepped clock, as fast as the machine allows."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from candlecast.client import ForecastClient
from candlecast.errors import CandlecastError
from candlecast.job_runs import recorded_job
from candlecast.market import floor_time
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.replay.control import ReplayControl
from candlecast.replay.faults import Faults
from candlecast.settings.settings import Settings
from flows.jobs import loop
from flows.jobs.market import OpenMarket, open_market, open_registry, open_service, served_versions
from flows.jobs.messages import train_message
from flows.jobs.retention import delete_expired
from flows.jobs.stepping import closing_moments, ingest_candle, last_close
from flows.jobs.watch import watch
from flows.local.home_processes import single_instance, stop_leftovers
from flows.local.interruption import interrupted_by_sigterm, refuse_interrupts
from flows.local.stack import LocalStack, free_ports, wait_for
from flows.simulation.facts import read_facts
from flows.simulation.plan import Plan, plan_simulation
from flows.simulation.poisoning import poison_champion
from flows.simulation.proof import prove_ledger
from flows.simulation.report import Report, Timing, is_written, write_report
from flows.simulation.scenarios import POISON
from monitoring.performance import rolling_performance

Reporter = Callable[[str], None]

_NOT_RUN = ("prefect", "worker", "evidently")
_DAY = timedelta(days=1)
# The schedules of `prefect.yaml`, as times after midnight and periods.
_MONITOR_EVERY = timedelta(minutes=15)
_HOUSEKEEPING_AT = timedelta(hours=3, minutes=20)
_BACKFILL_AT = timedelta(hours=3, minutes=40)
_TRAIN_AT = timedelta(hours=4, minutes=10)
_RELOAD_S = 60
_MIDNIGHT = datetime(1970, 1, 1, tzinfo=UTC)


class SimulationResult(NamedTuple):
    """The report of a simulation, and the settings of its platform, which still runs."""

    report: Report
    settings: Settings


@contextmanager
def simulate_scenario(
    settings: Settings,
    start: datetime | None,
    end: datetime | None,
    report: Reporter,
    scenario: str = "calm",
    candles: Path | None = None,
) -> Iterator[SimulationResult]:
    """Run a scenario on a platform of its own below HOME; the platform runs until the block ends.

    All markets of the settings with the symbol of the first are simulated on one clock. Those that the recording has
    no candles for are left out, and reported.

    Database, registry, exchange and service are real; each candle gets the work that the flows do. The clock stands
    still during the work on a candle, during a training, and after the end. An interrupted simulation continues;
    a complete one is not repeated.

    Args:
        start, end, scenario, candles: See `flows.simulation.plan.plan_simulation`.

    Raises:
        ConfigurationError: See `plan_simulation`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; everything is stopped.
    """
    plan = plan_simulation(settings, scenario, start, end, candles)
    for name, reason in plan.left_out.items():
        report(f"{name} is left out: {reason}")
    names = ("service_port", "mlflow_port", "prefect_port", "evidently_port", "database_port", "exchange_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    home = plan.settings.home
    with single_instance(home), interrupted_by_sigterm():
        stop_leftovers(home)
        plan = replace(plan, settings=plan.settings.changed(**ports))
        raw = plan.write_files()
        stack = LocalStack(plan.settings, plan.begin, plan.recordings, _NOT_RUN, plan.environment)
        try:
            with _running_platform(stack, plan, report) as runs:
                has_ended = is_written(home / "report", plan.end)
                total_s = 0.0 if has_ended else _simulate(plan, runs, report)
                first, *others = (_final_report(plan, run, raw[run.market.market], total_s) for run in runs)
                final = replace(first, others=tuple(others))
                page = home / "report" / "report.html" if has_ended else write_report(final, home / "report")
                report(f"report: {page}")
                for run in runs:
                    run.wait_until_reloaded()  # the page shows the served versions
                yield SimulationResult(final, stack.settings)
        finally:
            refuse_interrupts()
            stack.stop()


def _final_report(plan: Plan, run: _Run, raw: pd.DataFrame, total_s: float) -> Report:
    market, timing = run.market, Timing(run.candles, total_s, run.training_s)
    facts = read_facts(market.pool, market.market, plan.begin, plan.end, market.settings.limits.model_expiry)
    findings = plan.scenario.judge(facts, plan.event)
    findings += prove_ledger(market.pool, market.market, raw, plan.begin, plan.end)
    performance = rolling_performance(market.pool, market.market, "champion", max(facts.candles, 1))
    return Report(plan.name, plan.scenario.about, facts, performance, findings, timing)


@contextmanager
def _running_platform(stack: LocalStack, plan: Plan, report: Reporter) -> Iterator[list[_Run]]:
    settings = stack.settings
    report("starting database, registry, exchange and service")
    stack.launch()
    stack.start_database()
    stack.start("mlflow", "service")
    stack.start_replay()
    stack.wait_until_up("mlflow", f"{settings.mlflow_tracking_uri}/health")
    stack.wait_until_up("service", f"{settings.service.url}/livez")
    with (
        open_market(settings) as market,
        ReplayControl(settings.exchange.binance_url) as control,
        open_service(settings) as service,
    ):
        registry = open_registry(settings)
        yield [_Run(plan, market.of(one), control, service, registry, report) for one in settings.all_markets]


def _simulate(plan: Plan, runs: Sequence[_Run], report: Reporter) -> float:
    """Simulate every candle that is left; return the seconds that it took without the first trainings."""
    control, markets = runs[0].control, [run.market.market for run in runs]
    report("storing the history")
    for run in runs:
        run.prepare()
    gc.freeze()  # the collector skips what the libraries keep for good
    began, faults = time.monotonic(), Faults()
    for moment in closing_moments(control, markets, plan.end):
        close = last_close(markets, moment)
        due = next((one.faults for one in plan.fault_periods if one.start <= close < one.end), Faults())
        if due != faults:
            control.set_faults(due)
            faults = due
        control.set(moment)
        for run in runs:
            if floor_time(close, run.market.market.interval) == close:
                run.candle(close, moment)
        if close.minute == 0:
            per_second = sum(run.candles for run in runs) / (time.monotonic() - began)
            report(f"{close:%F %T}, {per_second:.1f} candles per second")
    control.set_faults(Faults())
    return time.monotonic() - began


@dataclass(slots=True)
class _Run:
    """The work on one market of a simulation: its jobs by schedule, and the events of the scenario."""

    plan: Plan
    market: OpenMarket
    control: ReplayControl
    service: ForecastClient
    registry: Registry
    report: Reporter
    candles: int = 0
    training_s: float = 0.0

    def prepare(self) -> None:
        """Store the history, and train a first version; its duration does not count."""
        loop.backfill(self.market, None, None, lambda _: None)
        if CHAMPION not in self.registry.aliases(self.market.market.model_name):
            self._train(self.control.state().now, "there is no champion yet", force=True)
        self.training_s = 0.0

    def candle(self, close: datetime, now: datetime) -> None:
        """Do the work that is due at the close of a candle."""
        self.candles += 1
        self._attempt("ingest", close, lambda: ingest_candle(self.market, self.service))
        if self.plan.scenario.poisoned and close >= self.plan.event:
            self._poison(now)
        if self._is_due(_HOUSEKEEPING_AT, _DAY, close):
            self._attempt("housekeeping", close, lambda: delete_expired(self.market, self.registry))
        if self._is_due(_BACKFILL_AT, _DAY, close):
            self._attempt("backfill", close, lambda: loop.backfill(self.market, None, None, lambda _: None))
        if self._is_due(timedelta(0), _MONITOR_EVERY, close):
            self._attempt("monitor", close, lambda: self._watch(now))
        if self._is_due(_TRAIN_AT, _DAY, close):
            self._attempt("train", close, lambda: self._train(now, "daily"))

    def _is_due(self, first: timedelta, every: timedelta, close: datetime) -> bool:
        """Return whether a run is due in this candle: `first` after midnight, then each `every`."""
        return (close - first - _MIDNIGHT) % every < self.market.market.step

    def _attempt(self, job: str, at: datetime, work: Callable[[], object]) -> None:
        """Run the work of a flow; a failure is reported, and the next run catches up."""
        try:
            work()
        except CandlecastError as exc:
            self.report(f"{at:%F %T} {job} {self.market.market.model_name} failed: {exc}")

    def _watch(self, now: datetime) -> None:
        outcome = watch(self.market, self.registry, now, with_report=False)
        for notice in outcome.notices:
            self.report(f"{now:%F %T} {notice.news}: {notice.kind}: {notice.message}")
        if outcome.rollback or (outcome.trial and outcome.trial.outcome != "waiting"):
            self.wait_until_reloaded()
        if outcome.check and outcome.training_due:
            why = "; ".join(outcome.check.verdict.reasons)
            self._attempt("train", now, lambda: self._train(now, why))

    def _train(self, now: datetime, why: str, *, force: bool = False) -> None:
        """Do the work of the flow `train`."""
        began, market = time.monotonic(), self.market
        with recorded_job(market.pool, "train", market.market, clock=lambda: now) as job:
            not_now = None if force else loop.training_obstacle(market, now)
            if not_now:
                job.skipped, job.message = True, not_now
                return
            self.report(f"{now:%F %T} training: {why}")
            version, decision = loop.train(market, now, lambda _: None)
            job.message = train_message(version, decision, market.left_out(now))
        self.report(f"{now:%F %T} {job.message}")
        self.wait_until_reloaded()
        self.training_s += time.monotonic() - began

    def _poison(self, now: datetime) -> None:
        began = time.monotonic()
        poisoned = poison_champion(self.market, self.registry, POISON, now)
        if poisoned is not None:
            self.report(f"{now:%F %T} poisoned version {poisoned} is champion")
            self.wait_until_reloaded()
            self.training_s += time.monotonic() - began

    def wait_until_reloaded(self) -> None:
        """Wait until the service serves the versions of the aliases; meanwhile the clock stands still."""
        wanted = self.registry.aliases(self.market.market.model_name)
        wait_for(
            lambda: served_versions(self.service, self.market.market) == wanted, _RELOAD_S, f"versions {wanted} served"
        )
