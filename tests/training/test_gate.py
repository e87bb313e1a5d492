"""Tests of the gate: each test alone can reject a version."""

from __future__ import annotations

import numpy as np
import pytest

from training.gate import MARGIN, GateResult, decide
from training.metrics import Losses

N = 3000
RANDOM = np.random.default_rng(11)
GOOD = Losses(
    close=np.abs(RANDOM.normal(0, 99.0, N)),
    close_baseline=np.zeros(N),
    amplitude=np.abs(RANDOM.normal(0, 80, N)),
    amplitude_baseline=np.zeros(N),
    brier=RANDOM.uniform(0.2, 0.29, N),
    brier_baseline=np.zeros(N),
    moved=np.ones(N, dtype=bool),
)
GOOD = GOOD._replace(
    close_baseline=GOOD.close * 1.002,
    amplitude_baseline=GOOD.amplitude * 1.1,
    brier_baseline=GOOD.brier * 1.001,
)


def scaled(losses: Losses, name: str, factor: float) -> Losses:
    return losses._replace(**{name: getattr(losses, name) * factor})


def failures(gate_result: GateResult) -> list[str]:
    return [reason.split(":")[0] for reason in gate_result.reasons if "fails" in reason]


def test_a_good_first_version_passes_with_a_sentence_for_each_test():
    gate_result = decide(GOOD, None)

    assert gate_result.passed
    assert [reason.split(":")[0] for reason in gate_result.reasons] == [
        "close holds against persistence",
        "amplitude holds against EWMA",
        "brier holds against the base rate",
    ]


@pytest.mark.parametrize(
    ("name", "factor", "said"),
    [
        ("close", 1.02, "close fails against persistence"),
        ("amplitude", 1.2, "amplitude fails against EWMA"),
        ("brier", 1.02, "brier fails against the base rate"),
    ],
)
def test_each_criterion_alone_refuses(name, factor, said):
    gate_result = decide(scaled(GOOD, name, factor), None)

    assert not gate_result.passed
    assert failures(gate_result) == [said]


@pytest.mark.parametrize("name", ["close", "amplitude", "brier"])
def test_a_challenger_clearly_worse_than_the_champion_fails_in_each_figure(name):
    champion = scaled(GOOD, name, 0.95)

    gate_result = decide(GOOD, champion)

    assert not gate_result.passed
    assert failures(gate_result) == ["total fails against the champion"]


def test_a_better_loss_may_offset_a_worse_one():
    champion = scaled(scaled(GOOD, "amplitude", 0.98), "close", 1.05)

    assert decide(GOOD, champion).passed


def test_directions_count_on_the_rows_that_moved():
    moved = np.arange(N) % 3 > 0
    still = GOOD._replace(moved=moved, brier=GOOD.brier[moved], brier_baseline=GOOD.brier_baseline[moved])

    assert decide(still, still).passed
    assert failures(decide(still, scaled(still, "brier", 0.9))) == ["total fails against the champion"]


def test_only_the_champion_is_compared_on_the_shared_rows():
    worse = scaled(GOOD, "close", 1.2)

    gate_result = decide(GOOD, GOOD, shared=worse)

    assert failures(gate_result) == ["total fails against the champion"]
    assert decide(GOOD, GOOD, shared=GOOD) == decide(GOOD, GOOD)


def test_a_challenger_as_good_as_the_champion_is_accepted():
    gate_result = decide(GOOD, GOOD)

    assert gate_result.passed
    assert len(gate_result.reasons) == 4


def test_a_challenger_better_than_the_champion_is_accepted():
    champion = scaled(scaled(GOOD, "close", 1.05), "amplitude", 1.05)

    assert decide(GOOD, champion).passed


@pytest.mark.parametrize(("excess", "passed"), [(0.8 * MARGIN, True), (1.2 * MARGIN, False)])
def test_the_margin_limits_the_excess_of_the_close(excess, passed):
    challenger = GOOD._replace(close=GOOD.close_baseline * (1 + excess))

    gate_result = decide(challenger, None)

    assert gate_result.passed is passed


def test_the_amplitude_has_no_margin_it_must_beat_its_baseline():
    gate_result = decide(GOOD._replace(amplitude=GOOD.amplitude_baseline), None)

    assert failures(gate_result) == ["amplitude fails against EWMA"]


def test_a_direction_equal_to_the_base_rate_passes():
    noise = np.random.default_rng(3).normal(0, 0.002, N)

    gate_result = decide(GOOD._replace(brier=GOOD.brier_baseline + noise - noise.mean()), None)

    assert gate_result.passed


def test_a_direction_significantly_worse_than_the_base_rate_fails():
    challenger = GOOD._replace(brier=GOOD.brier_baseline * (1 + 0.2 * MARGIN))

    gate_result = decide(challenger, None)

    assert failures(gate_result) == ["brier fails against the base rate"]


def test_forecasts_that_overlap_need_more_evidence():
    lasting = np.repeat(np.random.default_rng(6).normal(0, 20, N // 12), 12)
    challenger = GOOD._replace(close=GOOD.close_baseline + lasting - lasting.mean() - 0.2)

    bounds = [decide(challenger, None, horizon).numbers["close_vs_persistence_excess_upper"] for horizon in (1, 12)]

    assert bounds[1] > bounds[0] + 0.1
    assert decide(challenger, None) == decide(challenger, None, 1)


def test_too_few_rows_do_not_pass():
    blurred = GOOD._replace(close=RANDOM.permutation(GOOD.close_baseline))

    gate_result = decide(Losses(*(part[:30] for part in blurred)), None)

    assert failures(gate_result) == ["close fails against persistence"]


def test_a_reason_states_both_losses_and_the_test():
    gate_result = decide(GOOD, None)

    statistic, p_value = (gate_result.numbers[f"close_vs_persistence_dm_{name}"] for name in ("statistic", "p"))
    losses = f"{GOOD.close.mean():.6g} to {GOOD.close_baseline.mean():.6g}"
    said = f"close holds against persistence: {losses} (Diebold-Mariano {statistic:+.2f}, p {p_value:.2g})"
    assert gate_result.reasons[0] == said


def test_every_number_behind_the_decision_is_kept():
    gate_result = decide(GOOD, scaled(GOOD, "close", 1.02))

    assert gate_result.numbers["close_vs_persistence_skill"] == pytest.approx(1 - 1 / 1.002)
    assert gate_result.numbers["amplitude_vs_ewma_skill"] == pytest.approx(1 - 1 / 1.1)
    assert gate_result.numbers["amplitude_vs_ewma_dm_statistic"] < 0
    assert gate_result.numbers["amplitude_vs_ewma_dm_p"] < 1e-6
    assert gate_result.numbers["total_vs_champion_skill"] == pytest.approx((1 - 1 / 1.02) / 3, rel=1e-3)
    assert set(gate_result.numbers) == {
        f"{test}_{number}"
        for test in ("close_vs_persistence", "amplitude_vs_ewma", "brier_vs_base_rate", "total_vs_champion")
        for number in ("skill", "excess_upper", "dm_statistic", "dm_p")
    }
