"""Times in requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

EARLIEST_MS = 946_684_800_000  # 2000-01-01: a smaller number is in seconds
LATEST_MS = 4_102_444_800_000  # 2100-01-01: a larger one is in microseconds
TIME_FORMS = "send ISO-8601 with an offset, such as 2025-09-30T12:00:00Z, or milliseconds since 1970"
OUT_OF_TIME = f"is not between the years 2000 and 2100; {TIME_FORMS}"


def parse_time(text: str) -> datetime:
    """Read an aware UTC time from ISO-8601 with an offset, or from milliseconds since 1970.

    Raises:
        ValueError: The text is neither, or outside the years 2000 to 2100; the message continues after the value.
    """
    if text.isascii() and text.isdigit():
        milliseconds = int(text[:20])
    else:
        try:
            moment = msgspec.convert(text, datetime)
        except msgspec.ValidationError as exc:
            raise ValueError(f"is not a time; {TIME_FORMS}") from exc
        if moment.tzinfo is None:
            raise ValueError("has no offset; append Z if it is UTC")
        milliseconds = round(moment.timestamp() * 1000)
    if not EARLIEST_MS <= milliseconds < LATEST_MS:
        raise ValueError(OUT_OF_TIME)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def iso(moment: datetime) -> str:
    """Write a UTC time as ISO-8601 with a Z."""
    return moment.isoformat().replace("+00:00", "Z")
