"""Heartbeat: a request after each success, so that a service elsewhere notices when the requests stop."""

from __future__ import annotations

import requests
from pydantic import SecretStr

_TIMEOUT_S = 5.0


def send_heartbeat(url: SecretStr | None) -> str | None:
    """Request an address once, without retries.

    Args:
        url: Address of the heartbeat; None requests nothing.

    Returns:
        None if the request was accepted, else the reason, without the address.
    """
    if url is None:
        return None
    try:
        response = requests.get(url.get_secret_value(), timeout=_TIMEOUT_S, allow_redirects=False, stream=True)
    except requests.RequestException as exc:
        return f"the heartbeat's address does not answer: {type(exc).__name__}"  # the error text contains the address
    with response:
        accepted = requests.codes.ok <= response.status_code < requests.codes.multiple_choices
        return None if accepted else f"the heartbeat's address answers HTTP {response.status_code}"
