"""The shadow trial: whether a challenger that forecasts beside the champion has proved to be better."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision, has_failed, newest_decision
from candlecast.registry.promotion import end_trial, make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.settings import Settings
from monitoring.live_losses import Pairs, pairs_since
from monitoring.sequential import PairedLosses, evidence_of_worse

PROOF = 20.0
"""Evidence that proves: wrong in one trial of twenty at the most, however often one looks."""

TRIAL_LIMIT = 3
"""Times TRIAL_FORECASTS targets after which a trial without proof ends."""

MAX_MISSED_SHARE = 0.1
"""Share of the targets that a challenger may miss and still be promoted."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial has come to, with a sentence for each reason; the evidence, 1 being none, is in `numbers`.

    Attributes:
        outcome: `waiting` is more time.
    """

    challenger: str
    champion: str
    outcome: Literal["promoted", "rejected", "undecided", "waiting"]
    reasons: list[str]
    numbers: dict[str, float]


def update_trial(
    settings: Settings, pool: ConnectionPool, registry: Registry, aliases: dict[str, str], now: datetime
) -> TrialResult | None:
    """Look at the trial that is on and carry out what it has come to; None if there is no trial.

    To be called while `candlecast.registry.promotion.alias_lock`.

    Args:
        aliases: As the registry has them, with every move recorded (`record_alias_moves`).
        now: The exchange's clock.
    """
    name, champion, challenger = settings.market.model_name, aliases.get(CHAMPION), aliases.get(CHALLENGER)
    if champion is None or challenger is None:
        return None
    if has_failed(pool, name, challenger):
        reasons = ["it is marked as failed; only a person can make it champion again"]
        trial_result = TrialResult(challenger, champion, "rejected", reasons, {})
    else:
        limit = TRIAL_LIMIT * settings.monitoring.trial_forecasts
        since = _both_began(pool, name, champion, challenger) or now
        trial_result = evaluate_trial(
            settings, challenger, champion, pairs_since(pool, settings.market, champion, challenger, since, limit)
        )
    if trial_result.outcome == "waiting":
        return trial_result
    alias = CHAMPION if trial_result.outcome == "promoted" else CHALLENGER
    decision = Decision(
        challenger, trial_result.outcome, "trial", trial_result.reasons, alias, champion, trial_result.numbers, now
    )
    (make_champion if trial_result.outcome == "promoted" else end_trial)(registry, pool, name, decision)
    return trial_result


def evaluate_trial(settings: Settings, challenger: str, champion: str, pairs: Pairs) -> TrialResult:
    """Weigh a challenger against the champion on the targets that both have forecast.

    The score of a forecast is its absolute error of the close and of the amplitude, both in expected amplitudes, and
    the Brier score of its direction: three losses of like size, lower being better. An abstention counts as what it
    answered, the baseline. The challenger

    - is rejected as soon as its score has proved to be higher,
    - is promoted once its score has proved to be lower on TRIAL_FORECASTS targets or more, missing few,
    - loses its alias undecided after TRIAL_LIMIT times as many: the champion has not been shown to be worse.
    """
    wanted, horizon = settings.monitoring.trial_forecasts, settings.horizon
    losses = pairs.challenger.beside(pairs.champion)
    score = _score(losses, pairs)
    total = evidence_of_worse(score, horizon=horizon)
    better = evidence_of_worse(score.swapped, horizon=horizon).now
    worse = {name: evidence_of_worse(loss, horizon=horizon).peak for name, loss in losses.items()}
    numbers = {
        "pairs": total.n,
        "targets": pairs.targets,
        "missed": pairs.missed,
        "excess": total.excess,
        "better": better,
        "worse": total.peak,
        **{f"worse_{name}": evidence for name, evidence in worse.items()},
    }
    seen = (
        f"{total.n} forecasts beside champion {champion}: score {100 * total.excess:+.2f} %, evidence {better:.3g} "
        f"that it is better and {total.peak:.3g} that it is worse, {PROOF:g} is proof"
    )

    def ruled(outcome: Literal["promoted", "rejected", "undecided", "waiting"], *why: str) -> TrialResult:
        return TrialResult(challenger, champion, outcome, [seen, *why], numbers)

    if total.peak >= PROOF:
        return ruled("rejected")
    missing = pairs.missed > MAX_MISSED_SHARE * pairs.targets
    if better >= PROOF and total.n >= wanted and not missing:
        return ruled("promoted")
    notes = [f"it missed {pairs.missed} of {pairs.targets} targets"] if missing else []
    if pairs.targets >= TRIAL_LIMIT * wanted:
        return ruled("undecided", *notes, f"no proof in {pairs.targets} targets: the champion stays")
    return ruled("waiting", *notes)


def _score(losses: dict[str, PairedLosses], pairs: Pairs) -> PairedLosses:
    """The three losses added up, target by target; a direction that there was none of adds nothing."""
    scale, moved = pairs.champion.baseline_amplitude, pairs.champion.moved
    total = []
    for close, amplitude, direction in zip(*losses.values(), strict=True):
        part = (close + amplitude) / scale
        part[moved] += direction
        total.append(part)
    return PairedLosses(*total)


def _both_began(pool: ConnectionPool, name: str, champion: str, challenger: str) -> datetime | None:
    """Since when both have their alias, on the exchange's clock; None if neither record tells."""
    records = newest_decision(pool, name, champion, ("promoted",)), newest_decision(pool, name, challenger, ("trial",))
    return max((one.as_of for one in records if one is not None and one.as_of is not None), default=None)
