"""Pages of what other programs use: HTTP routes, Prometheus metrics and alerts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.reference.markdown import code, page, table


def http_page() -> str:
    """Describe every route from the OpenAPI document."""
    from starlette.routing import Route

    from service.app import create_app
    from service.openapi.document import describe

    routes = [route for route in create_app().routes if isinstance(route, Route) and route.include_in_schema]
    document = describe(routes, {}, ask_for_keys=True)
    parts = [
        str(document["info"]["description"]).partition("\n**Problems.**")[0],
        "**Problems.** A refused request gets a [problem document](errors.md#problems). The running service shows this "
        "reference with a form for trying it at `/docs`, and as an OpenAPI document at `/docs.json`.",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    parts.append("## Schemas")
    for name, schema in document["components"]["schemas"].items():
        parts += [f"### {name}", str(schema.get("description", "")), _fields(schema)]
    return page("HTTP", *parts)


def _operation(title: str, operation: dict[str, Any]) -> list[str]:
    rows = [
        (code(one["name"]), _type(one["schema"]), code(one["schema"].get("default", "")), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    posted = next(iter(operation.get("requestBody", {}).get("content", {}).values()), None)
    answers = operation["responses"]
    [(media_type, answer)] = answers["200"]["content"].items()
    refusals = [status for status in answers if status != "200"]
    example = json.dumps(answer["example"], indent=2) if "example" in answer else ""
    return [
        f"## {title}",
        f"{operation['summary']}.",
        operation.get("description", ""),
        table(("parameter", "type", "default", "meaning"), rows),
        f"Body: {_type(posted['schema'])}." if posted else "",
        f"Answer: {_type(answer['schema'])}, `{media_type}`." + f" Refusals: {', '.join(refusals)}." * bool(refusals),
        f'<details markdown="1"><summary>Example</summary>\n\n```json\n{example}\n```\n\n</details>' if example else "",
    ]


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (code(name) + ("" if name in required else " (optional)"), _type(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "meaning"), rows) or _type(schema)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_type, choices))
    if "enum" in schema or "const" in schema:
        return " or ".join(code(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        items = schema.get("prefixItems", [schema.get("items", {})])[0]
        return f"list of {_type(items)}"
    names = schema.get("type", "any")
    return str(schema.get("format") or (names if isinstance(names, str) else " or ".join(names)))


def metrics_page(root: Path) -> str:
    """Describe every metric of the service and every alert."""
    import yaml
    from prometheus_client import CollectorRegistry

    from service.telemetry.metrics import ServiceMetrics

    registry = CollectorRegistry()
    metrics = {each for each in vars(ServiceMetrics(registry)).values() if hasattr(each, "describe")}
    rows = []
    for metric in metrics:
        for described in metric.describe():
            name = described.name + ("_total" if described.type == "counter" else "")
            labels = getattr(metric, "_labelnames", ()) or getattr(described, "_labelnames", ())
            rows.append((code(name), described.type, ", ".join(map(code, labels)), described.documentation))
    groups = yaml.safe_load((root / "ops" / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
    parts = ["`GET /metrics` answers these.", table(("metric", "type", "labels", "meaning"), sorted(rows)), _ALERTS]
    for rule in (rule for group in groups for rule in group["rules"]):
        about = rule["annotations"]
        severity = f"{rule['labels']['severity']}, after {rule['for']}"
        parts += [f"### {rule['alert']}", f"{about['summary']} ({severity}). {about['description']}"]
        parts.append(f"```\n{rule['expr']}\n```")
    return page("Metrics and alerts", *parts)


_ALERTS = (
    "## Alerts\n\nPrometheus raises these; the rules are in `ops/prometheus-rules.yml`. The monitor reports drift, "
    "missed forecasts, promotions and rollbacks by webhook, in the table [alerts](tables.md#alerts) and in Prefect. "
    "[Watch it, and respond to alerts](../how-to/watch-and-respond.md) says what to do."
)
