"""What no error says."""

from __future__ import annotations

import pytest

from candlecast.errors import DatabaseUnavailable, InvalidCandles, RegistryUnavailable


@pytest.mark.parametrize("error", [RegistryUnavailable, DatabaseUnavailable, InvalidCandles])
def test_an_error_names_an_address_without_its_login(error):
    raised = error("https://svc:hunter2@mlflow.test:5000/api and postgresql://a:b@host/db do not answer; see a@b.test")

    assert str(raised) == "https://mlflow.test:5000/api and postgresql://host/db do not answer; see a@b.test"
