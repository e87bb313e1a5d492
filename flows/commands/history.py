"""Which version was live when, and why: the decisions on record beside what the ledger says was forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from candlecast.market import Market
from candlecast.registry.decisions import DecisionRecord, champion_decision_at
from flows.jobs.market import OpenMarket


class PastChampion(NamedTuple):
    """The champion of a moment.

    Attributes:
        decision: What made it champion; None if nothing was champion yet.
        forecast: The champion's newest forecast issued by then, as the ledger has it; None if there is none.
    """

    moment: datetime
    decision: DecisionRecord | None
    forecast: dict[str, Any] | None


def champion_at(market: OpenMarket, moment: datetime) -> PastChampion:
    """The champion of `moment`, on the exchange's clock."""
    return PastChampion(
        moment,
        champion_decision_at(market.pool, market.market.model_name, moment),
        market.ledger.newest_forecast(until=moment),
    )


def live_message(live: PastChampion, market: Market) -> str:
    """The same in two or three lines."""
    if live.decision is None:
        message = f"no version of {market.model_name} was champion at {live.moment:%F %T}"
    else:
        made = live.decision
        instead = f" in place of version {made.predecessor}" if made.predecessor else ""
        message = (
            f"version {made.version} of {market.model_name} was champion at {live.moment:%F %T}: promoted at "
            f"{made.at:%F %T} by {made.decided_by}{instead}" + "".join(f"\n- {reason}" for reason in made.reasons)
        )
    if live.forecast is None:
        return message
    return (
        f"{message}\nits newest forecast by then: version {live.forecast['model_version']} for "
        f"{live.forecast['open_time']:%F %R}, issued at {live.forecast['issued_at']:%F %T}"
    )


def as_figures(live: PastChampion) -> dict[str, Any]:
    """The same for scripts."""
    decision = live.decision
    return {
        "at": live.moment,
        "version": decision.version if decision else None,
        "decision": asdict(decision) if decision else None,
        "forecast": live.forecast,
    }


def history_message(decisions: Sequence[DecisionRecord]) -> str:
    """Decisions with their reasons, in the order in which they are given."""
    if not decisions:
        return "nothing was decided yet"
    lines = []
    for one in decisions:
        beside = f" (champion then: version {one.predecessor})" if one.predecessor else ""
        lines.append(f"{one.at:%F %T} version {one.version} {one.decision} by {one.decided_by}{beside}")
        lines += [f"- {reason}" for reason in one.reasons]
    return "\n".join(lines)
