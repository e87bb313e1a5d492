"""Webhook for alerts: one POST with JSON per notice."""

from __future__ import annotations

from dataclasses import asdict

import requests
from pydantic import SecretStr

from candlecast.market import Market
from monitoring.alerts import Alerts, Notice

_TIMEOUT_S = 5.0


def post_to_webhook(alerts: Alerts, url: SecretStr | None, market: Market) -> str | None:
    """Post all notices that were not sent yet.

    The next check retries after a failure, for a day. If a response is lost, the notice is sent twice. `id` and `news`
    identify a notice.

    Args:
        url: Address of the webhook; None posts nothing.

    Returns:
        None if all notices were accepted, else the reason.
    """
    if url is None:
        return None
    with requests.Session() as session:
        for notice in alerts.pending():
            try:
                response = session.post(
                    url.get_secret_value(),
                    json=_body(notice, market),
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,  # the body, which may never end, is not read
                )
            except requests.RequestException as exc:
                return f"the webhook does not answer: {type(exc).__name__}"  # the error text contains the address
            response.close()
            if not requests.codes.ok <= response.status_code < requests.codes.multiple_choices:
                return f"the webhook answers HTTP {response.status_code}"
            alerts.mark_sent(notice)
    return None


def _body(notice: Notice, market: Market) -> dict[str, object]:
    """Return the fields of a notice; chat services show `text`."""
    what = f"{notice.kind} {notice.news}: " if notice.news != "happened" else f"{notice.kind}: "
    return {
        "text": f"{market.model_name} {what}{notice.message}",
        **market._asdict(),
        **asdict(notice),
        "at": notice.at.isoformat(),
    }
