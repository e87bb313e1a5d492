"""During an upgrade a new service meets the schema of the release before: routes answer 503 until it is migrated."""

from __future__ import annotations

import psycopg
import pytest

from candlecast.database import migrate, open_database
from tests.candlecast.test_database import emptied
from tests.conftest import MigratedDatabase
from tests.service.conftest import Start
from tests.support.older_schemas import migrate_as_before

pytestmark = pytest.mark.integration
READING = (
    *("/price/latest", "/price/history", "/price/stats", "/series", "/forecasts", "/forecasts/latest", "/futures"),
    *("/monitoring", "/status", "/versions", "/jobs", "/quality", "/importance", "/chart", "/errors", "/direction"),
)


@pytest.mark.parametrize("first_left_out", ["0001", "0005", "0009"])
def test_no_route_fails_on_an_older_schema(
    start_service: Start, database: MigratedDatabase, first_left_out: str
) -> None:
    emptied(database.owner_url)
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        migrate_as_before(connection, first_left_out)
    service = start_service(database_reader_url=database.reader_url)

    before = {route: service.get(route) for route in READING}
    with open_database(database.owner_url) as pool:
        migrate(pool)
    after = {route: service.get(route).status_code for route in READING}

    failed = {route: answer.status_code for route, answer in before.items()}
    assert set(failed.values()) <= {200, 404, 503}, failed
    refused = [answer.json()["detail"] for answer in before.values() if answer.status_code == 503]
    assert refused
    assert all("run `candlecast migrate`" in detail for detail in refused)
    assert set(after.values()) <= {200, 404}, after
