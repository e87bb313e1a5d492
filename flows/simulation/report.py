"""The report of a simulation as Markdown, JSON and HTML: what happened, and whether every finding holds."""

from __future__ import annotations

import html
import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from candlecast.ledger.performance import Performance
from flows.simulation.champions import champion_days
from flows.simulation.facts import EVENTS, AlertResult, Facts
from flows.simulation.scenarios import Finding

_FIGURES = "report.json"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ddd;"
    "padding:.3rem .6rem;text-align:left;vertical-align:top}.no{color:#b00020;font-weight:600}.yes{color:#1b7f3b}"
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Duration of this process's work; an interrupted process before it is not included."""

    candles: int
    total_s: float
    training_s: float

    @property
    def per_second(self) -> float:
        """Candles per second, trainings included."""
        return self.candles / self.total_s if self.total_s else 0.0

    @property
    def per_second_without_training(self) -> float:
        """Candles per second, trainings excluded."""
        rest_s = self.total_s - self.training_s
        return self.candles / rest_s if rest_s else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The report of an ended simulation.

    Attributes:
        performance: Figures of all settled forecasts of champions; None if there is none.
        findings: Findings of the scenario, then those that every simulation has.
        others: Reports of the other markets of the simulation.
    """

    scenario: str
    about: str
    facts: Facts
    performance: Performance | None
    findings: list[Finding]
    timing: Timing
    others: tuple[Report, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every finding of every market holds."""
        return all(finding.holds for finding in self.findings) and all(other.passed for other in self.others)

    @property
    def figures(self) -> dict[str, Any]:
        """Counts and measurements, for JSON."""
        facts = self.facts
        return {
            "scenario": self.scenario,
            "market": facts.market.model_name,
            "passed": self.passed,
            "begin": facts.begin.isoformat(),
            "end": facts.end.isoformat(),
            "candles": facts.candles,
            "forecasts": facts.forecasts,
            "misses": dict(Counter(miss.reason for miss in facts.misses)),
            "performance": self.performance.numbers() if self.performance else None,
            "verdicts": facts.verdicts,
            "trainings": dict(Counter(training.status for training in facts.trainings)),
            "trials": len(facts.decided("trial")),
            "promotions": len(facts.decided("promoted")),
            "rollbacks": len(facts.decided("failed")),
            "champion_days": asdict(champion_days(facts)),
            "new_candles_by_training": facts.new_candles,
            "alert_days": {
                name: span / timedelta(days=1) for name, span in facts.open_alerts(facts.begin, facts.end).items()
            },
            "alerts": dict(Counter(alert.kind for alert in facts.alerts)),
            "candles_per_s": round(self.timing.per_second, 1),
            "candles_per_s_without_training": round(self.timing.per_second_without_training, 1),
            "findings": [asdict(finding) for finding in self.findings],
            "others": {other.facts.market.model_name: other.figures for other in self.others},
        }

    @property
    def message(self) -> str:
        """The report as Markdown."""
        parts = [
            self.title,
            self.subject,
            *(f"## {title}\n\n{_markdown(rows)}" for title, rows in self.tables().items() if rows),
        ]
        return "\n".join(["\n\n".join(parts) + "\n", *(other.message for other in self.others)])

    @property
    def title(self) -> str:
        """The outcome."""
        return f"# Simulation {self.scenario}: {'passed' if self.passed else 'FAILED'}"

    @property
    def subject(self) -> str:
        """Scenario, market and span."""
        facts = self.facts
        return f"{self.about} {facts.market.model_name}, {facts.begin:%F %R} to {facts.end:%F %R} UTC."

    def tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Return the rows of each part of the report, by title."""
        facts = self.facts
        return {
            "Findings": [("yes" if finding.holds else "NO", finding.must, finding.seen) for finding in self.findings],
            "Figures": _figures(self),
            "Decisions": [
                (f"{one.at:%F %R}", f"version {one.version}", one.decision, one.decided_by, "; ".join(one.reasons))
                for one in facts.decisions
            ],
            "Alerts": [
                (
                    f"{alert.opened_at:%F %R}",
                    alert.kind,
                    alert.subject,
                    _duration(alert, facts),
                    alert.message,
                )
                for alert in facts.alerts
            ],
            "Trainings": [
                (f"{training.at:%F %R}", training.status, new, training.message.split("\n")[0])
                for training, new in zip(
                    facts.trainings, ["", *(f"{n:,} new candles" for n in facts.new_candles)], strict=False
                )
            ],
        }


def write_report(report: Report, directory: Path) -> Path:
    """Write `report.md`, `report.json` and `report.html` into `directory`; return the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / "report.html"
    page.write_text(_page(report))
    (directory / "report.md").write_text(report.message)
    (directory / _FIGURES).write_text(json.dumps(report.figures, indent=1, default=str))  # last
    return page


def is_written(directory: Path, end: datetime) -> bool:
    """Return whether the complete report of a simulation up to `end` exists."""
    try:
        return bool(json.loads((directory / _FIGURES).read_text())["end"] == end.isoformat())
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _figures(report: Report) -> list[tuple[str, ...]]:
    facts, timing, performance = report.facts, report.timing, report.performance
    rows: list[tuple[str, ...]] = [
        ("candles", f"{facts.candles:,} in {facts.days:.1f} days"),
        ("forecasts", ", ".join(f"{count:,} by the {role}" for role, count in sorted(facts.forecasts.items()))),
        ("misses", _counted(Counter(f"{miss.role}: {miss.reason}" for miss in facts.misses))),
        ("verdicts", _counted(facts.verdicts)),
        ("champion", champion_days(facts).message),
        ("trainings", _counted(Counter(training.status for training in facts.trainings))),
        ("decisions", _counted(Counter(f"{one.decision} by {one.decided_by}" for one in facts.decisions))),
        ("alerts", _counted(Counter(alert.kind for alert in facts.alerts))),
        (
            "candles per second",
            f"{timing.per_second_without_training:.1f} without training, {timing.per_second:.1f} with "
            f"({timing.candles:,} candles in {timing.total_s:.0f} s, {timing.training_s:.0f} s of it training)",
        ),
    ]
    if performance:
        close, amplitude = performance.close, performance.amplitude
        rows.insert(
            3,
            (
                "close",
                f"MAPE {close.mape:.4f} % (persistence {close.baseline_mape:.4f} %), skill "
                f"{100 * close.skill:+.2f} %, direction {100 * performance.direction.accuracy:.1f} %, "
                f"amplitude skill {100 * amplitude.skill:+.1f} %",
            ),
        )
    return rows


def _duration(alert: AlertResult, facts: Facts) -> str:
    if alert.kind in EVENTS:
        return ""
    days = alert.open_in(facts.begin, facts.end) / timedelta(days=1)
    ended = f"recovered {alert.recovered_at:%F %R}" if alert.recovered_at else "not recovered"
    return f"{ended}, open for {days:.1f} days"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "none"


def _markdown(rows: list[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    header = "|" + " |" * len(rows[0]) + "\n|" + "---|" * len(rows[0])
    return "\n".join([header, *(f"| {' | '.join(row)} |" for row in cells)])


def _page(report: Report) -> str:
    def row(cells: tuple[str, ...]) -> str:
        kind = {"yes": "yes", "NO": "no"}.get(cells[0], "")
        return f"<tr class='{kind}'>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"

    def section(one: Report) -> str:
        parts = [
            f"<h2>{html.escape(name)}</h2><table>{''.join(map(row, rows))}</table>"
            for name, rows in one.tables().items()
            if rows
        ]
        return f"<h1>{html.escape(one.title.lstrip('# '))}</h1><p>{html.escape(one.subject)}</p>{''.join(parts)}"

    title = html.escape(report.title.lstrip("# "))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"{''.join(map(section, (report, *report.others)))}</html>\n"
    )
