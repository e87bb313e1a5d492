"""The Prefect automation that passes every alert to a notification block."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ALERTS = "candlecast-alerts"
"""Name of the automation, and of the notification block (Slack, mail, Teams, ...) that the operator creates."""

EVENTS = "candlecast.alert."
"""Prefix of the events that the flow `monitor` emits: `opened`, `recovered` or `happened` follows."""


def create_alert_automation(client: SyncPrefectClient) -> bool:
    """Create the automation if its block exists and it does not; an existing one stays as it is.

    Returns:
        Whether the automation exists now.
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
            description="Passes every alert of Candlecast to the notification block of the same name",
            trigger=trigger,
            actions=[notification],
        )
    )
    return True
