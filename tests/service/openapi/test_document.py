"""The OpenAPI document: complete, valid, true to the code, and held against the running service by schemathesis."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from starlette.routing import Route
from starlette.testclient import TestClient

from candlecast.api.answers import Answer, ForecastAnswer
from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import forecast_record
from candlecast.market import Market
from service.app import create_app
from service.http.documented import Documented, documented
from service.http.problems import KINDS
from service.openapi.document import _PARAMETERS
from service.predict.request import PostedCandle, PredictRequest, SeriesRequest
from tests.service.conftest import Start
from tests.support.bundles import sound_candles
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry
from tests.support.serving import PATIENT, ROOT, Served, serving

FACTS = {
    route.path: documented(route.endpoint)
    for route in create_app().routes
    if isinstance(route, Route) and route.include_in_schema
}
JSON_FACTS = {path: facts for path, facts in FACTS.items() if facts.answer}


@pytest.fixture
def service(start_service: Start) -> TestClient:
    return start_service()


@pytest.fixture
def document(service: TestClient) -> dict[str, Any]:
    return dict(service.get("/docs.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)

    schema.validate()
    assert document["openapi"].startswith("3.1")
    assert len([*schema.get_all_operations()]) == len([*operations(document)])


def test_an_invalid_document_would_be_noticed(document: dict[str, Any]) -> None:
    del document["paths"]["/predict"]["post"]["responses"]["200"]["description"]

    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(document).validate()


def test_every_route_of_ours_is_described(service: TestClient, document: dict[str, Any]) -> None:
    routes = {route.path for route in service.app.routes if isinstance(route, Route) and route.include_in_schema}  # type: ignore[attr-defined]

    assert routes == set(document["paths"])


def test_every_operation_has_words_an_example_and_its_refusals(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, operation in operations(document):
        assert operation["summary"], path
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "path" or (parameter["description"] and "example" in parameter), path
        for media_type, content in operation["responses"]["200"]["content"].items():
            assert media_type != "application/json" or content["example"], path
        if operation["tags"] != ["operations"]:
            assert {"400", "401", "429"} <= set(operation["responses"]), path


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(document))):
        found = document
        for part in reference.split("/"):
            found = found[part]
        assert found, reference


def test_every_property_that_is_a_number_says_its_unit_or_meaning(document: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, part in schema.get("properties", {}).items()
        if '"number"' in json.dumps(part)
        and "description" not in json.dumps(part)
        and '"array"' not in json.dumps(part)
    ]

    assert silent == []


@pytest.mark.parametrize("path", list(JSON_FACTS))
def test_an_example_is_an_answer_with_every_field(path: str, document: dict[str, Any]) -> None:
    facts = JSON_FACTS[path]

    answer = schema_of(facts).model_validate(facts.example)

    shown = {field for field, value in answer.model_dump(mode="json").items()}
    assert set(facts.example) == shown
    validate(document, schema_of(facts).__name__, facts.example)


def test_the_example_of_a_history_is_answered(service: TestClient, document: dict[str, Any]) -> None:
    example = document["components"]["examples"]["history"]["value"]
    fewest = service.get("/model").json()["models"]["champion"]["input"]["history"]

    assert len(example["candles"]) == fewest
    validate(document, "PredictRequest", example)
    for path in ("/predict", "/predict/series"):
        answer = service.post(path, json=example)
        assert answer.status_code == 200
        validate(document, schema_of(FACTS[path]).__name__, answer.json())


def test_without_a_champion_there_is_still_a_document(start_service: Start, registry: FakeRegistry) -> None:
    registry.pointers.clear()

    document = start_service(wait=False).get("/docs.json").json()

    validate(document, "PredictRequest", document["components"]["examples"]["history"]["value"])


def test_posted_fields_are_those_that_are_parsed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for name, shape in (
        ("PostedCandle", PostedCandle),
        ("PredictRequest", PredictRequest),
        ("SeriesRequest", SeriesRequest),
    ):
        assert tuple(schemas[name]["properties"]) == shape.__struct_fields__


def test_every_parameter_described_is_taken_and_no_other(service: TestClient) -> None:
    for path, facts in JSON_FACTS.items():
        for name in _PARAMETERS:
            refused = (
                service.get(f"{path}?{name}=%00").json().get("field")
                if path not in {"/predict", "/predict/series"}
                else None
            )
            assert refused in {None, name}
        unknown = service.request(
            "GET" if path not in {"/predict", "/predict/series"} else "POST", f"{path}?x=1"
        ).json()
        known = re.findall(r"\w+", unknown["detail"].partition("known are ")[2])
        assert tuple(known) == (facts.parameters or ()), path


def test_every_kind_of_problem_is_used_and_described(document: dict[str, Any]) -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))

    described = set(re.findall(r"^\| `([a-z-]+)` \|", document["info"]["description"], re.M))
    assert described == set(KINDS)
    unused = [kind for kind in KINDS if source.count(f'"{kind}"') < 2]
    assert unused == []
    assert {int(status) for status in document["components"]["responses"]} == {kind.status for kind in KINDS.values()}


def schema_of(facts: Documented) -> type[Answer]:
    assert facts.answer is not None
    return facts.answer


def validate(document: dict[str, Any], name: str, value: Any) -> None:
    """Hold a value against a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.fixture
def served_with_record(tiny_bundles: dict[str, Path], tmp_path: Path, database: Any) -> Iterator[Served]:
    """A running service, and candles and forecasts in its database."""
    market, candles = Market("BTCUSDT", "5m"), sound_candles(200)
    reader = f"{database.reader_url.get_secret_value()}?connect_timeout=30&{PATIENT}"
    with serving(tmp_path, tiny_bundles["1"], CANDLECAST_DATABASE_READER_URL=reader) as service:
        with open_database(database.writer_url) as pool:
            ledger = Ledger(pool, market)
            for end in range(190, 200):
                response = requests.post(
                    f"{service.url}/predict", json={"candles": as_rows(candles.iloc[:end])}, timeout=5
                )
                answer = ForecastAnswer.model_validate_json(response.content)
                ledger.record(forecast_record(answer, "champion", answer.open_time, "replay"))
            CandleStore(pool).upsert(market.symbol, market.interval, candles, "test")
            ledger.settle(datetime(2025, 1, 1, tzinfo=UTC))
        yield service


@pytest.mark.integration
def test_schemathesis_finds_no_fault_with_the_running_service(served_with_record: Served) -> None:
    # Left out is the demand that everything the schema allows is accepted: that candles follow one another, or
    # that start is before end, no schema can say.
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{served_with_record.url}/docs.json"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "7"),
        *("--request-timeout", "60", "--continue-on-failure", "--no-color"),
        *("--exclude-path", "/forecasts/stream"),  # it has no end
    ]

    run = subprocess.run(
        command, capture_output=True, text=True, timeout=400, check=False, cwd=served_with_record.log.parent
    )

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    tested = re.search(r"Operations:\s+(\d+) selected / (\d+) total", run.stdout)
    assert tested is not None
    documented = requests.get(f"{served_with_record.url}/docs.json", timeout=5).json()["paths"]
    assert int(tested[1]) == len(documented.keys() - {"/forecasts/stream"})
    assert served_with_record.log.read_text().count('"event":"defect"') == 0
