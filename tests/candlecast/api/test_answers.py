"""The schema of answers: descriptions of fields."""

from __future__ import annotations

from candlecast.api.answers import Baseline, Direction


def test_a_field_without_a_text_has_the_description_of_its_type():
    schema = Direction.model_json_schema()["properties"]["up"]

    assert schema["description"] == "Probability between 0 and 1."
    assert (schema["minimum"], schema["maximum"]) == (0, 1)


def test_the_text_below_a_field_is_its_description():
    schema = Baseline.model_json_schema()["properties"]["up"]

    assert schema["description"] == "The base rate of rising candles."
    assert (schema["minimum"], schema["maximum"]) == (0, 1)
