"""Page of the database's tables, read from the migrations."""

from __future__ import annotations

import re
from importlib import resources

from flows.reference.markdown import code, page, table

_TABLES = {
    "candles": "Closed candles as the exchange settled them.",
    "candle_revisions": "Values of candles that were replaced.",
    "candle_gaps": "Ranges of missing candles.",
    "candle_suspicions": "Doubtful candles. Training and monitoring leave them out.",
    "candle_confirmations": "Candles that were doubtful and that the exchange returned again with the same values.",
    "forecasts": "Every recorded forecast, partitioned by month. Rows never change.",
    "quotes": "Best bid and ask when a forecast was recorded, partitioned by month. Rows never change.",
    "withheld_forecasts": "Why forecasts that were due were not requested.",
    "missed_forecasts": "Forecasts that were due and not made in time. Rows never change.",
    "outcomes": "What the market did, one row for each target candle and horizon. A corrected candle changes it.",
    "settled_forecasts": "A view: forecasts beside their outcomes, without those from doubtful or corrected candles.",
    "job_runs": "Runs of jobs. Housekeeping deletes old rows.",
    "promotions": "Decisions about model versions.",
    "monitoring_checks": "Checks of the monitor. Housekeeping deletes old rows.",
    "alerts": "Conditions that are open or recovered, and events.",
    "exchange_limits": "Used request weight of each exchange address, shared by all processes.",
    "schema_migrations": "Migrations that were applied.",
}
_NOTES = {("promotions", "as_of"): "the exchange's clock, if it was known"}
_COLUMN = re.compile(r"^(?: {4}|alter table \w+ )(?:add column )?(\w+) ((?:[a-z0-9]+)(?:\[\])?)(.*)$")
_STATEMENT = re.compile(r"^(?:create|alter|drop) (?:table|view) .*?;(?: *--.*)?$", re.MULTILINE | re.DOTALL)
_CHOICE = re.compile(r"check \((\w+) in \(([^)]+)\)\)")
_NO_COLUMN = {"primary", "constraint", "check", "like", "add", "drop", "unique"}


def tables_page() -> str:
    """Describe every table and view."""
    parts = ["Migrations in `candlecast/migrations/` create these. Times are UTC; prices are in quote currency."]
    for name, columns in sorted(columns_by_table().items()):
        rows = [(code(column), kind, _NOTES.get((name, column), note)) for column, (kind, note) in columns.items()]
        parts += [f"## {name}", _TABLES[name], table(("column", "type", "note"), rows)]
    return page("Tables", *parts)


def columns_by_table() -> dict[str, dict[str, tuple[str, str]]]:
    """Read type and note of every column from the migrations.

    Returns:
        Columns by name, for each table and view after the last migration.
    """
    tables = {"schema_migrations": dict.fromkeys(("name", "digest"), ("text, required", ""))}
    tables["schema_migrations"]["applied_at"] = ("timestamptz, required", "")
    for file in sorted(resources.files("candlecast.migrations").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            for statement in _STATEMENT.findall(file.read_text(encoding="utf-8")):
                _apply(statement.replace(", add column", ",\n    add column"), tables)
    return tables


def _apply(statement: str, tables: dict[str, dict[str, tuple[str, str]]]) -> None:
    verb, kind, name = re.split(r"[\s;]+", statement)[:3]
    if verb == "drop":
        del tables[name]
    elif renamed := re.search(r"rename to (\w+)", statement):
        tables[renamed[1]] = tables.pop(name)
    elif kind == "view":
        tables[name] = _view_columns(statement, tables)
    else:
        columns = tables.setdefault(name, {})
        if like := re.search(r"^ {4}like (\w+)", statement, re.M):
            columns.update(tables[like[1]])
        columns.update(_columns(statement))
        for column, values in _CHOICE.findall(statement):
            choices = ", ".join(map(code, re.findall(r"'([^']+)'", values)))
            columns[column] = (columns[column][0], f"one of {choices}")
        for dropped in re.findall(r"drop column (\w+)", statement):
            del columns[dropped]


def _columns(statement: str) -> dict[str, tuple[str, str]]:
    columns, above = {}, ""
    for line in statement.splitlines():
        declared, _, note = line.partition("--")
        found = _COLUMN.match(declared)
        if found and found[1] not in _NO_COLUMN:
            required = "not null" in found[3] or "primary key" in found[3]
            columns[found[1]] = (found[2] + ", required" * required, note.strip() or above)
        above = note.strip() if not declared.strip() else ""
    return columns


def _view_columns(statement: str, tables: dict[str, dict[str, tuple[str, str]]]) -> dict[str, tuple[str, str]]:
    selected = re.sub(r"--.*", "", statement).partition("\nfrom ")[0].partition(" f.*,")[2]
    columns = dict(tables["forecasts"])
    for term in re.split(r",\n", selected):
        expression, _, name = re.sub(r"\s+", " ", term).strip().rpartition(" as ")
        name = name.rpartition(".")[2]
        columns[name] = ("computed", code(expression)) if expression else ("from outcomes", "")
    return columns
