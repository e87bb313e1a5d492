"""Faults of a body that msgspec rejected: every row is checked again, slowly, to name row and field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

import msgspec

from candlecast.api.answers import Fault
from candlecast.candles.schema import FLOW_COLUMNS, OHLCV_COLUMNS
from service.http.problems import FAULTS_SHOWN, Refusal, refusal_of
from service.http.times import TIME_FORMS

_KindAndFault = tuple[str, Fault]
_NOT_FINITE = re.compile(rb"\b(NaN|Infinity)\b")


def shown(value: Any) -> str:
    """Write a value as JSON of at most 60 characters, with NaN and Infinity."""
    try:
        text = json.dumps(value) if isinstance(value, float) else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def time_fault(row: int, value: Any, fault: str) -> Fault:
    """Describe a fault of a row's open_time."""
    return Fault(row=row, field="open_time", value=shown(value), detail=f"row {row}: open_time {shown(value)} {fault}")


def explain(
    body: bytes,
    shape: type[msgspec.Struct],
    candle: type[msgspec.Struct],
    kline_names: tuple[str, ...],
    kline: Any,
    reason: str,
) -> Refusal:
    """Find out why `body` does not match `shape`.

    Args:
        candle: Type of one row of `candles`.
        kline_names: Names of the values in one row of `klines`.
        kline: Tuple of the types of these values.
        reason: Message of msgspec, used if no fault is found.
    """
    try:
        request = _decoded(body)
    except (ValueError, RecursionError) as exc:
        return Refusal("malformed-body", _encoding_fault(body) or f"the body is not JSON: {exc}")
    if not isinstance(request, dict):
        message = 'the body is not an object; send {"candles": [{"open_time": ..., "open": ..., ...}]}'
        return Refusal("malformed-body", message, value=shown(request))
    known = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for name, value in request.items():
        if name not in known:
            message = f"unknown field {shown(name)}; known are {', '.join(sorted(known))}"
            return Refusal("unknown-field", message, field=name[:60], value=shown(value))
    candle_types = {field.name: field.type for field in msgspec.structs.fields(candle)}
    kline_types = dict(zip(kline_names, get_args(kline), strict=True))
    for name, rows in request.items():
        if name in {"candles", "klines"} and isinstance(rows, list):
            types = candle_types if name == "candles" else kline_types
            found = _first(_candle_faults(rows, types) if name == "candles" else _kline_faults(rows, types))
            if found:
                return refusal_of(found[0][0], [fault for _, fault in found])
        elif not _fits(rows, known[name]):
            return Refusal("invalid-value", f"{name} is {shown(rows)}; {_wanted(name)}", field=name, value=shown(rows))
    return Refusal("malformed-body", reason)


def _decoded(body: bytes) -> Any:
    """Decode JSON, and NaN and Infinity, which some libraries write into it."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        if not _NOT_FINITE.search(body):
            raise
    return json.loads(body)


def _encoding_fault(body: bytes) -> str | None:
    if not body.strip():
        return 'the body is empty; send {"candles": [{"open_time": ..., "open": ..., ...}]}'
    encoding = json.detect_encoding(body)
    if encoding == "utf-8-sig":
        return "the body begins with a byte-order mark; send UTF-8 without it"
    if encoding != "utf-8":
        return f"the body is {encoding.upper()}; send UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        return f"byte {exc.start} of the body is not UTF-8; send UTF-8"
    return None


def _first(found: Iterator[_KindAndFault]) -> list[_KindAndFault]:
    return [each for each, _ in zip(found, range(FAULTS_SHOWN), strict=False)]


def _candle_faults(rows: list[Any], types: dict[str, Any]) -> Iterator[_KindAndFault]:
    """At most one fault for each row."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            yield _fault("invalid-value", number, None, row, f"a candle must be an object, not {shown(row)}")
            continue
        unknown = next((name for name in row if name not in types), None)
        if unknown is not None:
            detail = f"unknown field {shown(unknown)}; known are {', '.join(types)}"
            yield _fault("unknown-field", number, unknown[:60], row[unknown], detail)
            continue
        missing = next((name for name in types if name not in row and name not in FLOW_COLUMNS), None)
        if missing is not None:
            detail = f"{missing} is missing; every candle needs open_time, {', '.join(OHLCV_COLUMNS)}"
            yield "missing-field", Fault(row=number, field=missing, detail=f"row {number}: {detail}")
            continue
        yield from _value_fault(number, row, types)


def _kline_faults(rows: list[Any], types: dict[str, Any]) -> Iterator[_KindAndFault]:
    """At most one fault for each row."""
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(types):
            held = f"{len(row)} values" if isinstance(row, list) else shown(row)
            yield _fault(
                "invalid-value", number, None, row, f"a kline must be an array of {len(types)} values, not {held}"
            )
            continue
        yield from _value_fault(number, dict(zip(types, row, strict=True)), types)


def _value_fault(number: int, row: dict[str, Any], types: dict[str, Any]) -> Iterator[_KindAndFault]:
    for name, value in row.items():
        if not _fits(value, types[name]):
            wanted = _time_wanted(value) if name == "open_time" else _number_wanted(name, value)
            yield _fault("invalid-value", number, name, value, f"{name} is {shown(value)}; {wanted}")
            return


def _fault(kind: str, row: int, field: str | None, value: Any, detail: str) -> _KindAndFault:
    return kind, Fault(row=row, field=field, value=shown(value), detail=f"row {row}: {detail}")


def _number_wanted(name: str, value: Any) -> str:
    if isinstance(value, float):  # only NaN and Infinity are refused
        return (
            "send null if it is unknown" if name in FLOW_COLUMNS else "JSON has finite numbers only; correct the candle"
        )
    return "send a number"


def _fits(value: Any, expected: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        msgspec.convert(value, expected, strict=False)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _time_wanted(value: Any) -> str:
    if isinstance(value, str) and _fits(value, datetime):
        return "it has no offset; append Z if it is UTC"
    return TIME_FORMS


def _wanted(name: str) -> str:
    return {
        "candles": "it must be a list of objects, oldest candle first",
        "klines": "it must be a list of arrays, oldest candle first",
        "model": "send an alias, champion or challenger, or a version number in quotes",
        "fields": "send a list of column names; /docs lists them",
    }.get(name, "send a string, or leave it out")
