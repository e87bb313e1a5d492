"""Formulas of figures: SQL, answered by a real PostgreSQL, equals NumPy."""

from __future__ import annotations

import math

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.figures import FIGURES, INSIDE, LOSS, RELATIVE_LOSS, SQUARED_ERROR, Formula, skill
from tests.conftest import MigratedDatabase

COLUMNS = ("reference", "close", "actual", "amplitude", "actual_amplitude", "lower", "upper", "probability")
ROWS = """
select *, abs(actual / reference - 1) as size, case when actual <> reference then (actual > reference)::int end as rose,
       case when actual <> reference then (probability >= 0.5) = (actual > reference) end as hit
from unnest({columns}) with ordinality as rows ({names}, at)
""".format(columns=", ".join(f"%({name})s::float8[]" for name in COLUMNS), names=", ".join(COLUMNS))
ERRORS = [(name, pair) for name in ("mae", "rmse", "mape", "smape", "bias")
          for pair in (("close", "actual"), ("amplitude", "actual_amplitude"))]  # fmt: skip
FIGURE_CASES = [
    *ERRORS,
    ("coverage", ("actual", "lower", "upper")),
    ("brier", ("probability", "rose")),
    ("accuracy", ("hit",)),
    ("weighted_accuracy", ("hit", "size")),
    ("mean_return_on_hits", ("hit", "size")),
    ("mean_return_on_misses", ("hit", "size")),
]
ROW_CASES: list[tuple[Formula, tuple[str, ...]]] = [
    (LOSS, ("close", "actual")),
    (RELATIVE_LOSS, ("close", "actual")),
    (SQUARED_ERROR, ("close", "actual")),
    (INSIDE, ("actual", "lower", "upper")),
]
SKILL = FIGURES["skill"].sql(LOSS.sql("close", "actual"), LOSS.sql("reference", "actual"))

prices = st.floats(1, 1e6)
amplitudes = st.one_of(st.just(0.0), st.floats(1e-3, 1e4))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """One to thirty rows; some closes do not move, some amplitudes are zero."""
    rows = []
    for _ in range(draw(st.integers(1, 30))):
        reference = draw(prices)
        actual = draw(st.one_of(st.just(reference), prices))
        rows.append(
            (reference, draw(prices), actual, draw(amplitudes), draw(amplitudes), *sorted((draw(prices), draw(prices))),
             draw(st.floats(0.001, 0.999)))
        )  # fmt: skip
    return dict(zip(COLUMNS, np.array(rows).T, strict=True))


def in_numpy(table: dict[str, np.ndarray], columns: tuple[str, ...]) -> list[np.ndarray]:
    """The columns as the formulas take them: those of the direction are of rows whose close moved."""
    moved = table["actual"] != table["reference"]
    rose = table["actual"] > table["reference"]
    derived = {
        "size": np.abs(table["actual"] / table["reference"] - 1),
        "rose": rose,
        "hit": (table["probability"] >= 0.5) == rose,
    }
    of_direction = bool(derived.keys() & set(columns))
    return [(table | derived)[name][moved if of_direction else slice(None)] for name in columns]


@pytest.mark.integration
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=tables())
def test_every_figure_is_the_same_in_sql_and_numpy(
    connection: psycopg.Connection, table: dict[str, np.ndarray]
) -> None:
    names = ", ".join([SKILL, *(FIGURES[name].sql(*columns) for name, columns in FIGURE_CASES)])

    query = f"select {names} from ({ROWS}) as rows"
    found_skill, *found = connection.execute(query.encode(), lists(table)).fetchone() or ()

    losses = [LOSS.numpy(table[name], table["actual"]) for name in ("close", "reference")]
    assert found_skill == pytest.approx(FIGURES["skill"].numpy(*losses), rel=1e-12, abs=1e-12)
    for (name, columns), value in zip(FIGURE_CASES, found, strict=True):
        expected = FIGURES[name].numpy(*in_numpy(table, columns))
        scale = FIGURES["mae"].numpy(*in_numpy(table, columns)) if name == "bias" else 0
        assert value is None if math.isnan(expected) else value == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


@pytest.mark.integration
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=tables())
def test_values_of_a_row_are_the_same_in_sql_and_numpy(
    connection: psycopg.Connection, table: dict[str, np.ndarray]
) -> None:
    names = ", ".join(formula.sql(*columns) for formula, columns in ROW_CASES)

    rows = connection.execute(f"select {names} from ({ROWS}) as rows order by at".encode(), lists(table)).fetchall()

    for (formula, columns), values in zip(ROW_CASES, zip(*rows, strict=True), strict=True):
        assert values == pytest.approx(formula.numpy(*in_numpy(table, columns)), rel=1e-12)


FORECAST, CAME = np.array([11.0, 8.0, 12.0, 5.0]), np.array([10.0, 10.0, 10.0, 0.0])
HIT, SIZE = np.array([True, False, True, False]), np.array([0.1, 0.2, 0.5, 0.6])


@pytest.mark.parametrize(
    ("name", "columns", "value"),
    [
        ("mae", (FORECAST, CAME), (1 + 2 + 2 + 5) / 4),
        ("rmse", (FORECAST, CAME), math.sqrt((1 + 4 + 4 + 25) / 4)),
        ("mape", (FORECAST, CAME), 100 * (1 / 10 + 2 / 10 + 2 / 10) / 3),
        ("smape", (FORECAST, CAME), 100 * (1 / 10.5 + 2 / 9 + 2 / 11) / 3),
        ("bias", (FORECAST, CAME), (1 - 2 + 2 + 5) / 4),
        ("skill", (np.array([1.0, 2.0]), np.array([1.0, 3.0])), 1 - 1.5 / 2),
        ("coverage", (np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.full(5, 2.0), np.full(5, 4.0)), 3 / 5),
        ("brier", (np.array([0.9, 0.2]), np.array([True, True])), (0.1**2 + 0.8**2) / 2),
        ("accuracy", (np.array([True, False, True]),), 2 / 3),
        ("weighted_accuracy", (HIT, SIZE), 0.6 / 1.4),
        ("mean_return_on_hits", (HIT, SIZE), 0.3),
        ("mean_return_on_misses", (HIT, SIZE), 0.4),
        ("weighted_accuracy", (HIT, np.zeros(4)), math.nan),
        ("mae", (np.empty(0), np.empty(0)), math.nan),
    ],
)
def test_a_figure_by_hand(name: str, columns: tuple[np.ndarray, ...], value: float) -> None:
    assert FIGURES[name].numpy(*columns) == pytest.approx(value, nan_ok=True)


def test_every_figure_is_compared() -> None:
    assert {name for name, _ in FIGURE_CASES} | {"skill"} == set(FIGURES)


def test_skill_is_zero_where_the_reference_has_no_loss() -> None:
    assert skill([1.0, 0.125, 1.0, 0.0], [2.0, 0.5, 0.0, 0.0]).tolist() == [0.5, 0.75, 0.0, 0.0]


@pytest.fixture
def connection(database: MigratedDatabase):
    with psycopg.connect(database.reader_url.get_secret_value(), autocommit=True) as opened:
        yield opened


def lists(table: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """The table as arguments of a query."""
    return {name: column.tolist() for name, column in table.items()}
