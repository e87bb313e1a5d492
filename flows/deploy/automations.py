"""Prefect's own way of telling people: an automation that hands every alert to a notification block."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ALERTS = "candlecast-alerts"
"""Name of the automation, and of the notification block (Slack, mail, Teams, ...) that somebody made for it."""

EVENTS = "candlecast.alert."
"""Prefix of the events that the flow `monitor` emits: `opened`, `recovered` or `happened` follows."""


def create_alert_automation(client: SyncPrefectClient) -> bool:
    """Make the automation, if there is a block for it and the automation is not there yet; whether it is there now.

    One that is there is left as it is: people change it in Prefect's UI.
    """
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    if client.read_automations_by_name(ALERTS):
        return True
    block = next(
        (one for one in client.read_block_documents("notify", include_secrets=False) if one.name == ALERTS), None
    )
    if block is None:
        return False
    trigger = EventTrigger(expect={f"{EVENTS}*"}, posture=Posture.Reactive, threshold=1)
    notification = SendNotification(
        block_document_id=block.id,
        subject="{{ event.resource.name }} {{ event.payload.news }}",
        body="{{ event.payload.message }}",
    )
    client.create_automation(
        AutomationCore(
            name=ALERTS,
            description="Hands what Candlecast alerts of to the notification block of the same name",
            trigger=trigger,
            actions=[notification],
        )
    )
    return True
