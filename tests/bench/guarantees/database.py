"""The review's tables about what the database counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from candlecast.database import migrate, open_database
from candlecast.market import Market
from candlecast.settings.sources import load_settings
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from monitoring.live_losses import pairs_since
from monitoring.power import windows
from monitoring.trial import evaluate_trial
from service.charts.queries import DIRECTION
from tests.bench.guarantees.recordings import recorded
from tests.bench.guarantees.table import Table, count_in, percent
from tests.support.made_up_market import MadeUpMarket, time_of
from tests.support.markets import MARKET
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.registries import version_of

_DELAY = 87
_ROWS = 3000


@contextmanager
def migrated_database() -> Iterator[SimpleNamespace]:
    """A migrated, empty database on a server of its own, by `owner_url`."""
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalPostgres(Path(directory) / "postgres", free_ports(1)[0]).running() as server,
    ):
        owner_url = SecretStr(server.url("candlecast_owner"))
        with open_database(owner_url) as pool:
            migrate(pool)
        yield SimpleNamespace(owner_url=owner_url)


def candles_during_training() -> Table:
    """P6: targets that passed while the challenger was trained."""
    settings = load_settings()
    targets = windows(settings)["a better challenger"].targets
    with migrated_database() as database, open_database(database.owner_url) as pool:
        market = MadeUpMarket(database)
        market.forecast("1", 0, targets, amplitude_off=0.3)
        market.forecast("2", _DELAY, targets, role="challenger", amplitude_off=0.1)
        pairs = pairs_since(pool, MARKET, version_of("1"), version_of("2"), time_of(0), targets)
    trial = evaluate_trial(settings, "2", "1", pairs)
    rows = [
        ["targets that count as missed", f"{_DELAY} of {targets}", count_in(pairs.missed, pairs.targets)],
        ["outcome, with proof that it is better", "undecided", trial.outcome],
    ]
    about = f"A challenger that is better, and whose first forecast came {_DELAY} candles after its training began."
    failed = [] if trial.outcome == "promoted" else ["candles that pass during a training prevent a promotion"]
    return Table("Candles that pass during a training (P6)", about, ["", "before", "now"], rows, failed)


def repeated_directions(folder: Path) -> Table:
    """Section 3: accuracy of the page's baseline that repeats the last direction."""
    close = recorded(folder, "BTCUSDT-1m", "1m")["close"]
    rows = []
    with migrated_database() as database:
        for horizon, before in ((5, "80.1 %"), (15, "88.7 %"), (60, "94.3 %")):
            market = Market("BTCUSDT", "1m", horizon)
            shown = _repeat_accuracy(database.owner_url, close.iloc[: _ROWS + horizon], market)
            rows.append([str(horizon), before, percent(shown)])
    about = (
        f"Accuracy that the page shows for repeating the last direction, on {_ROWS:,} candles of BTCUSDT 1m. By "
        "the review, what can be known at issue is right in 50.2, 49.3 and 49.5 % of all of them."
    )
    return Table("The baseline that repeats (section 3)", about, ["horizon", "before", "now"], rows)


def _repeat_accuracy(owner_url: SecretStr, close: pd.Series[float], market: Market) -> float:
    """Record a forecast for each candle, as the ledger has them, and read the figure that the page shows."""
    made = [
        forecast_for(
            opened.to_pydatetime(),
            **market._asdict(),
            last_open_time=opened.to_pydatetime() - market.horizon * market.step,
            baseline_close=last,
        )
        for opened, last in zip(
            close.index[market.horizon :], close.to_numpy()[: -market.horizon].tolist(), strict=True
        )
    ]
    rows = [
        (one.open_time, one.baseline_close, came)
        for one, came in zip(made, close.iloc[market.horizon :].tolist(), strict=True)
    ]
    with psycopg.connect(owner_url.get_secret_value(), row_factory=dict_row) as connection:
        with connection.cursor() as cursor:
            cursor.executemany(
                _OUTCOME,
                [{**market._asdict(), "open_time": at, "last": last, "close": came} for at, last, came in rows],
            )
        connection.commit()
        record_as_if_in_time(owner_url, made)
        asked = {"role": "champion", "start": rows[0][0], "end": rows[-1][0], "step": timedelta(days=1), "bins": 10}
        [found] = connection.execute(DIRECTION.encode(), {**market._asdict(), **asked}).fetchall()
    return float(found["figures"]["repeat_accuracy"])


_OUTCOME = """
insert into outcomes (symbol, interval, open_time, horizon, reference_close, open, high, low, close, amplitude)
values (%(symbol)s, %(interval)s, %(open_time)s, %(horizon)s, %(last)s, %(close)s, %(close)s, %(close)s, %(close)s, 0)
"""
