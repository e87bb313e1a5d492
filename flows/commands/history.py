"""The history of champions: the recorded decisions, and the forecasts in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from candlecast.market import Market
from candlecast.registry.decisions import DecisionRecord, champion_decision_at
from candlecast.registry.identity import described
from flows.jobs.market import OpenMarket


@dataclass(frozen=True, slots=True)
class PastChampion:
    """The champion at a past time.

    Attributes:
        moment: Time on the exchange's clock.
        decision: Decision that promoted it; None if there was no champion.
        forecast: Newest forecast of the champion that was issued by then; None if there is none.
    """

    moment: datetime
    decision: DecisionRecord | None
    forecast: dict[str, Any] | None


def champion_at(market: OpenMarket, moment: datetime) -> PastChampion:
    """Return the champion at `moment` on the exchange's clock."""
    return PastChampion(
        moment,
        champion_decision_at(market.pool, market.market.model_name, moment),
        market.ledger.newest_forecast(until=moment),
    )


def live_message(live: PastChampion, market: Market) -> str:
    """Return two or three lines about a past champion."""
    if live.decision is None:
        message = f"{market.model_name} had no champion at {live.moment:%F %T}"
    else:
        made = live.decision
        instead = f" in place of {described(made.predecessor, made.predecessor_run_id)}" if made.predecessor else ""
        message = (
            f"{described(made.version, made.run_id)} of {market.model_name} was champion at {live.moment:%F %T}: "
            f"promoted at {made.at:%F %T} by {made.decided_by}{instead}"
            + "".join(f"\n- {reason}" for reason in made.reasons)
        )
    if live.forecast is None:
        return message
    version = described(live.forecast["model_version"], live.forecast["run_id"])
    return (
        f"{message}\nits newest forecast by then: {version} for "
        f"{live.forecast['open_time']:%F %R}, issued at {live.forecast['issued_at']:%F %T}"
    )


def as_figures(live: PastChampion) -> dict[str, Any]:
    """Return the figures of a past champion, for scripts."""
    decision = live.decision
    return {
        "at": live.moment,
        "version": decision.version if decision else None,
        "decision": asdict(decision) if decision else None,
        "forecast": live.forecast,
    }


def history_message(decisions: Sequence[DecisionRecord]) -> str:
    """Return lines about decisions and their reasons, in the given order."""
    if not decisions:
        return "there is no decision yet"
    lines = []
    for one in decisions:
        before = one.predecessor and described(one.predecessor, one.predecessor_run_id)
        beside = f", champion then: {before}" if before else ""
        version = described(one.version, one.run_id)
        lines.append(f"{one.at:%F %T} {version} {one.decision} by {one.decided_by}{beside}")
        lines += [f"- {reason}" for reason in one.reasons]
    return "\n".join(lines)
