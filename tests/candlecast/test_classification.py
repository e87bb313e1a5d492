"""Figures of two classes against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from candlecast.classification import Classification, classify

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.51, 0.8, 1.0]), st.booleans()), max_size=40)


@given(PAIRS)
def test_figures_are_those_of_scikit_learn(pairs):
    probability, rose = (np.array([pair[part] for pair in pairs], dtype=kind) for part, kind in ((0, float), (1, bool)))
    forecast = probability >= 0.5

    found = classify(probability, rose)

    if pairs:
        counts = metrics.confusion_matrix(rose, forecast, labels=[False, True]).ravel().tolist()
        assert [found.true_down, found.false_up, found.false_down, found.true_up] == counts
        assert found.accuracy == pytest.approx(metrics.accuracy_score(rose, forecast))
        assert found.precision == pytest.approx(metrics.precision_score(rose, forecast, zero_division=0))
        assert found.recall == pytest.approx(metrics.recall_score(rose, forecast, zero_division=0))
        assert found.f1 == pytest.approx(metrics.f1_score(rose, forecast, zero_division=0))
    if rose.any() and not rose.all():
        assert found.auc == pytest.approx(metrics.roc_auc_score(rose, probability))


def test_without_any_direction_nothing_is_right():
    found = classify(np.array([]), np.array([], dtype=bool))

    assert found == Classification(0, 0, 0, 0, auc=0.5)
    assert (found.accuracy, found.precision, found.recall, found.f1) == (0, 0, 0, 0)
