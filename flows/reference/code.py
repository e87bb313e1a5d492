"""Pages of settings, commands, errors and the Python client."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

from flows.reference.markdown import code, docstring, page, table

_INTERVALS = ("1m", "5m", "15m", "1h", "4h", "6h", "12h", "1d", "1w")


def settings_page() -> str:
    """Describe every setting, group by group."""
    from candlecast.settings.settings import Settings, groups, known_settings

    parts = [docstring(Settings), "[candlecast.example.toml](../candlecast.example.toml) has every key."]
    for group, kind in {"": Settings, **groups()}.items():
        rows = [
            (code(setting.variable), code(setting.key), code(setting.default), setting.description)
            for setting in known_settings().values()
            if setting.group == group
        ]
        parts += [f"## {group or 'General'}", docstring(kind) if group else ""]
        parts.append(table(("variable", "key in candlecast.toml", "default", "meaning"), rows))
    return page("Settings", *parts, *_of_one_market(), *_by_interval())


def _of_one_market() -> list[str]:
    """Describe the table of a market."""
    from candlecast.settings.file import market_settings

    return [
        "## markets.NAME",
        "A table such as `[markets.BTCUSDT-1m-h15]` gives values for one market. Its keys are "
        f"{', '.join(map(code, market_settings()))}; `family` is another name of `model_family`.",
    ]


def _by_interval() -> list[str]:
    """Describe the defaults that depend on interval and horizon."""
    from candlecast.settings import limits
    from candlecast.settings.settings import Settings

    def row(interval: str, horizon: int) -> list[str]:
        found = Settings(interval=interval, horizon=horizon).limits
        return [interval, str(horizon), *(f"{value:g}" for value in found.by_setting.values()), f"{found.mape:.2g} %"]

    shown = [(interval, 1) for interval in _INTERVALS] + [("1m", 15), ("5m", 15), ("1h", 15), ("1d", 5)]
    rows = [row(*market) for market in shown]
    names = [name.upper() for name in Settings().limits.by_setting]
    return [
        "## By interval and horizon",
        docstring(limits),
        table(("interval", "horizon", *map(code, names), "MAPE that means drift"), rows),
    ]


def example_file() -> str:
    """Return candlecast.toml with every key as a comment, below its meaning."""
    from candlecast.settings.settings import known_settings

    lines, table = (
        [
            "# Settings of Candlecast: copy this file to candlecast.toml, and remove the # before a key to set it.",
            "# A table such as [markets.BTCUSDT-1m-h15] gives values for one market: examples/ has such files.",
        ],
        "",
    )
    for one in known_settings().values():
        lines += ["", f"[{one.group}]"] if one.group != table else []
        table = one.group
        lines += ["", *textwrap.wrap(one.description, 118, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{one.field} = {one.example}")
    return "\n".join([*lines, ""])


def commands_page() -> str:
    """Describe every command with its arguments and options."""
    from typer.main import get_command

    from flows.cli import app

    group: Any = get_command(app)
    intro = "`candlecast COMMAND --help` prints the same text. An [error](errors.md) ends a command with exit code 1. "
    intro += "A time is UTC: 2025-07-01, 2025-07-01T08:00 or 2025-07-01T08:00:00."
    return page("Commands", intro, *_commands("candlecast", group))


def _commands(path: str, group: Any) -> list[str]:
    parts: list[str] = []
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            parts += _commands(f"{path} {name}", command)
            continue
        context = command.context_class(command, info_name=f"{path} {name}")
        usage = " ".join((f"{path} {name}", *command.collect_usage_pieces(context)))
        records = [param.get_help_record(context) for param in command.params]
        rows = [(code(re.sub(r"<%.*>", "<time>", names)), meaning) for names, meaning in filter(None, records)]
        parts += [f"## {path} {name}".replace("candlecast ", ""), inspect.cleandoc(command.help or "")]
        parts += [f"```\n{usage}\n```", table(("parameter", "meaning"), rows)]
    return parts


def errors_page() -> str:
    """Describe every error of the code, and every kind of problem that the service answers."""
    from candlecast import errors
    from service.http.problems import KINDS

    remedies = dict(re.findall(r"── (\w+) +(.+)", errors.__doc__ or ""))
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    classes = {name: thing for name, thing in vars(errors).items() if inspect.isclass(thing)}
    parts = [
        "The command line prints an error and the path of its entry here, and ends with exit code 1. "
        f"The service answers a [problem document](#problems).\n\n```\n{tree.strip()}\n```"
    ]
    for name, error in classes.items():
        remedy = remedies.get(name)
        parts += [f"## {name}", docstring(error), f"**What to do:** {remedy}." if remedy else ""]
    parts += ["## Problems", _PROBLEMS]
    for kind, (status, title) in KINDS.items():
        remedy = _BY_STATUS.get(status, "Correct the request; `detail` names the fault.")
        parts += [f"### {kind}", f"HTTP {status}: {title}. **What to do:** {remedy}"]
    return page("Errors", *parts)


_PROBLEMS = (
    "A refused request gets `application/problem+json` (RFC 9457). Its `type` is `urn:problem-type:candlecast:` and "
    "one of these names, which do not change. The header `Link` of the answer points here."
)
_BY_STATUS = {
    401: "Send a key of CANDLECAST_API_KEYS as `Authorization: Bearer KEY`.",
    408: "Send the body faster, or send fewer candles.",
    413: "Send fewer candles.",
    429: "Repeat the request after the seconds in `Retry-After`.",
    500: "Report the defect with the `request_id`; the log of the service has its traceback.",
    503: "Repeat the request after the seconds in `Retry-After`.",
}


def client_page() -> str:
    """Describe the public names of `candlecast.client`: first the client, then what it answers and raises."""
    from candlecast import client, errors

    parts = ["Import these names from `candlecast.client`."]
    for name in sorted(client.__all__, key=lambda name: (name != "ForecastClient", name)):
        thing = getattr(client, name)
        link = f"[Fields of {name}](http.md#{name.lower()})" if hasattr(thing, "model_fields") else ""
        link = f"[What to do](errors.md#{name.lower()})" if hasattr(errors, name) else link
        own = thing.__module__ == client.__name__
        parts += [f"## {name}", _signature(name, thing) if own else "", docstring(thing), link]
        for each, method in vars(thing).items() if own else ():
            if inspect.isfunction(method) and not each.startswith("_"):
                parts += [f"### {name}.{each}", _signature(each, method), docstring(method)]
    return page("Python client", *parts)


def _signature(name: str, thing: Any) -> str:
    shown = [
        f"{name}: {parameter.annotation}"
        + ("" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}")
        for name, parameter in inspect.signature(thing).parameters.items()
        if name != "self"
    ]
    answer = inspect.signature(thing).return_annotation
    returned = "" if inspect.isclass(thing) or answer is inspect.Signature.empty else f" -> {answer}"
    line = f"{name}({', '.join(shown)}){returned}"
    if len(line) > 90:
        line = f"{name}(\n    " + ",\n    ".join(shown) + f",\n){returned}"
    return f"```python\n{line}\n```"
