"""Telling a web address of alerts: one POST of JSON for each notice."""

from __future__ import annotations

from dataclasses import asdict

import requests
from pydantic import SecretStr

from candlecast.market import Market
from monitoring.alerts import Alerts, Notice

_TIMEOUT_S = 5.0


def post_to_webhook(alerts: Alerts, url: SecretStr | None, market: Market) -> str | None:
    """Post what the webhook has not taken yet; None if it has taken everything, else why not.

    Nothing is raised: a receiver that is away is offered the same again by the next check, for a day. One that answers
    and is not heard gets a notice twice; `id` and `news` together name it.

    Args:
        url: None tells nobody.
    """
    if url is None:
        return None
    with requests.Session() as session:
        for notice in alerts.pending():
            try:
                response = session.post(
                    url.get_secret_value(), json=_body(notice, market), timeout=_TIMEOUT_S, allow_redirects=False
                )
            except requests.RequestException as exc:
                return f"the webhook does not answer: {type(exc).__name__}"  # its text quotes the address
            if not requests.codes.ok <= response.status_code < requests.codes.multiple_choices:
                return f"the webhook answers HTTP {response.status_code}"
            alerts.mark_sent(notice)
    return None


def _body(notice: Notice, market: Market) -> dict[str, object]:
    """`text` is the whole in one sentence, which is what chat services show."""
    what = f"{notice.kind} {notice.news}: " if notice.news != "happened" else f"{notice.kind}: "
    return {
        "text": f"{market.model_name} {what}{notice.message}",
        **market._asdict(),
        **asdict(notice),
        "at": notice.at.isoformat(),
    }
