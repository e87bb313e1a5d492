"""Shadow trial: sequential comparison of a challenger with the champion on live candles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from psycopg_pool import ConnectionPool

from candlecast.arrays import Floats
from candlecast.market import known_time
from candlecast.registry.decisions import Decision, has_failed, newest_decision
from candlecast.registry.identity import ModelVersion
from candlecast.registry.lifetime import Lifetime, lifetime_of
from candlecast.registry.promotion import CurrentVersions, end_trial, make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.settings.settings import Settings
from monitoring.live_losses import Pairs, pairs_since
from monitoring.sequential import PairedLosses, brier_bound, evidence_of_worse

PROOF = 20.0
"""Evidence that counts as proof; false in at most one trial in 20, at any look."""

TRIAL_LIMIT = 3
"""Multiple of the needed targets after which a trial without proof ends."""

NON_INFERIORITY = 0.01
"""Part of the challenger's score by which the champion may be better when a fresher challenger replaces it."""

MAX_MISSED_SHARE = 0.1
"""Share of targets that a challenger may miss and still be promoted."""

_LEAST_SCALE = 0.1
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TrialTimes:
    """Ages that a trial depends on, by the exchange's clock.

    Attributes:
        champion_aged: Whether the champion has passed half of its life and the challenger is fresher.
        champion_expires: Statement of the champion's expiry, if it is close or past and the challenger is fresher.
        over: Whether the trial has taken half of a model's life.
    """

    champion_aged: bool = False
    champion_expires: str | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Current result of a trial, with reasons as sentences and figures as numbers.

    Attributes:
        challenger: Number of the challenger.
        champion: Number of the champion.
        outcome: Outcome; a trial that is `waiting` continues.
        runs: Runs of challenger and champion, in this order; numbers may be another's later.
    """

    challenger: str
    champion: str
    outcome: Literal["promoted", "rejected", "undecided", "waiting"]
    reasons: list[str]
    numbers: dict[str, float]
    runs: tuple[str, ...] = ()


def update_trial(
    settings: Settings, pool: ConnectionPool, registry: Registry, current: CurrentVersions, now: datetime
) -> TrialResult | None:
    """Evaluate the current trial and apply its outcome; the caller holds `candlecast.registry.promotion.alias_lock`.

    Args:
        current: Champion and challenger, with every move recorded by `record_alias_moves`.
        now: Time by the exchange's clock.

    Returns:
        Result of the trial, or None without a trial.
    """
    name, champion, challenger = settings.market.model_name, current.champion, current.challenger
    if champion is None or challenger is None:
        return None
    if has_failed(pool, name, challenger):
        reasons = ["it is marked as failed; only a person can promote it"]
        trial_result = TrialResult(challenger.number, champion.number, "rejected", reasons, {})
    else:
        trial_result = _compare(settings, pool, registry, challenger, champion, now)
    trial_result = replace(trial_result, runs=(challenger.run_id, champion.run_id))
    if trial_result.outcome == "waiting":
        return trial_result
    alias = CHAMPION if trial_result.outcome == "promoted" else CHALLENGER
    decision = Decision(
        challenger, trial_result.outcome, "trial", trial_result.reasons, alias, champion, trial_result.numbers, now
    )
    (make_champion if trial_result.outcome == "promoted" else end_trial)(registry, pool, name, decision)
    return trial_result


def _compare(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion,
    now: datetime,
) -> TrialResult:
    name, expiry = settings.market.model_name, settings.limits.model_expiry
    ours, theirs = (lifetime_of(registry, name, one, expiry) for one in (challenger, champion))
    if ours is not None and now >= ours.expires_at:
        return TrialResult(challenger.number, champion.number, "undecided", [f"it {ours.expiry_note(now)}"], {})
    since = _both_began(pool, name, champion, challenger, now)
    times = trial_times(settings, ours, theirs, since, now)
    limit = TRIAL_LIMIT * settings.limits.trial_forecasts
    pairs = pairs_since(pool, settings.market, champion, challenger, since or _BEGINNING, limit)
    return evaluate_trial(settings, challenger.number, champion.number, pairs, times)


def trial_times(
    settings: Settings, ours: Lifetime | None, theirs: Lifetime | None, since: datetime | None, now: datetime
) -> TrialTimes:
    """Return what a trial of a challenger (`ours`) beside a champion (`theirs`) depends on, if it began at `since`."""
    over = since is not None and now - since >= settings.limits.model_expiry / 2
    if ours is None or theirs is None or ours <= theirs:
        return TrialTimes(over=over)
    ending = theirs.is_ending(settings.market.step, now)
    return TrialTimes(theirs.past_half(now), theirs.expiry_note(now) if ending else None, over)


def evaluate_trial(
    settings: Settings, challenger: str, champion: str, pairs: Pairs, times: TrialTimes | None = None
) -> TrialResult:
    """Compare a challenger with the champion on the targets that both have forecast.

    The score of a forecast is the sum of three losses: the absolute errors of close and amplitude, both divided by the
    expected amplitude, and the Brier score of the direction. An abstention counts with its answer, the baseline. The
    challenger is

    - rejected once its score is proved to be higher, and its mean is,
    - promoted once its score is proved to be lower on TRIAL_FORECASTS or more, its mean is, and it misses few,
    - promoted in the same way, if the champion has aged, once its score is proved to be lower than the champion's
      plus NON_INFERIORITY,
    - promoted without proof if the champion's expiry is close, unless the challenger misses many,
    - removed undecided after TRIAL_LIMIT times as many targets, or after half of a model's life.

    The proof is about differences in units of their bounds. The mean is checked as well, because a few large losses may
    outweigh many small wins.
    """
    wanted, horizon, times = settings.limits.trial_forecasts, settings.horizon, times or TrialTimes()
    losses = pairs.challenger.beside(pairs.champion)
    score = _score(losses, pairs)
    total = evidence_of_worse(score, horizon=horizon)
    better = evidence_of_worse(score.swapped, horizon=horizon).now
    not_worse = evidence_of_worse(score.swapped, -NON_INFERIORITY, horizon).now
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
    summary = (
        f"{total.n} forecasts beside champion {champion}: score {100 * total.excess:+.2f} %, evidence {better:.3g} "
        f"that it is better and {total.peak:.3g} that it is worse, {PROOF:g} is proof"
    )

    def trial_result(outcome: Literal["promoted", "rejected", "undecided", "waiting"], *why: str) -> TrialResult:
        return TrialResult(challenger, champion, outcome, [summary, *why], numbers)

    if total.peak >= PROOF and total.excess > 0:
        return trial_result("rejected")
    missing = pairs.missed > MAX_MISSED_SHARE * pairs.targets
    proved = better >= PROOF and total.excess < 0
    enough = total.n >= wanted and not missing
    if proved and enough:
        return trial_result("promoted")
    if times.champion_aged and enough and not_worse >= PROOF and score.swapped.excess > -NON_INFERIORITY:
        return trial_result(
            "promoted",
            f"the champion has passed half of its life and is better by less than {100 * NON_INFERIORITY:g} % "
            f"(evidence {not_worse:.3g}): the fresher version replaces it",
        )
    if times.champion_expires and not missing:
        return trial_result("promoted", f"the champion {times.champion_expires}: the fresher version replaces it")
    notes = [f"it missed {pairs.missed} of {pairs.targets} targets"] if missing else []
    if pairs.targets >= TRIAL_LIMIT * wanted or times.over:
        end = "the champion stays" if proved else f"no proof in {pairs.targets} targets: the champion stays"
        return trial_result("undecided", *notes, end)
    return trial_result("waiting", *notes)


def _score(losses: dict[str, PairedLosses], pairs: Pairs) -> PairedLosses:
    """Add the three losses of each target; targets whose close did not move have no direction loss.

    The bound has the direction's part on every target, because it must be known before the outcome: whether the close
    will move is not.
    """
    close, amplitude, direction = losses["close"], losses["amplitude"], losses["direction"]
    scale, moved = _scale(pairs), pairs.champion.moved
    ours, theirs = ((close.losses + amplitude.losses) / scale, (close.reference + amplitude.reference) / scale)
    ours[moved] += direction.losses
    theirs[moved] += direction.reference
    bound = (close.bound + amplitude.bound) / scale
    bound += brier_bound(pairs.challenger.probability_up, pairs.champion.probability_up)
    return PairedLosses(ours, theirs, bound, pairs.champion.candle)


def _scale(pairs: Pairs) -> Floats:
    """Return the expected amplitude of each target, infinite without one, from what is known at its forecast.

    It is a tenth of the mean so far at least, because a few quiet candles would weigh more than all others.
    """
    theirs, ours = pairs.champion, pairs.challenger
    expected = (theirs.baseline_amplitude + theirs.amplitude + ours.amplitude) / 3  # the first baseline may be zero
    usual = np.cumsum(expected) / np.arange(1, len(expected) + 1)
    scale = np.maximum(theirs.baseline_amplitude, _LEAST_SCALE * usual)
    return np.where(scale > 0, scale, np.inf)


def _both_began(
    pool: ConnectionPool, name: str, champion: ModelVersion, challenger: ModelVersion, now: datetime
) -> datetime | None:
    """Return since when both have their alias, by the exchange's clock, or None if it is unknown."""
    records = newest_decision(pool, name, champion, ("promoted",)), newest_decision(pool, name, challenger, ("trial",))
    times = [known_time(one.as_of, now) for one in records if one is not None]
    return max((one for one in times if one is not None), default=None)
