"""Calls from pages of other origins."""

from __future__ import annotations

from tests.service.conftest import Start

KEY = "correct-horse-battery-staple"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


class TestCors:
    ORIGIN = "https://charts.example.org"

    def test_by_default_no_other_origin_may_call(self, start_service: Start) -> None:
        response = start_service().get("/model", headers={"Origin": self.ORIGIN})

        assert not [name for name in response.headers if name.startswith("access-control")]

    def test_an_origin_that_a_setting_names_may_call_and_send_a_key(self, start_service: Start) -> None:
        service = start_service(cors_origins=f"https://other.example.org, {self.ORIGIN}", api_keys=KEY)

        allowed = service.options("/predict", headers={"Origin": self.ORIGIN, **PREFLIGHT})
        refused = service.options("/predict", headers={"Origin": "https://evil.example.org", **PREFLIGHT})
        answer = service.get("/model", headers={"Origin": self.ORIGIN, "X-API-Key": KEY})

        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, self.ORIGIN)
        assert "x-api-key" in allowed.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-origin" not in refused.headers
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
