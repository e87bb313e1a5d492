"""Constant load: connections that post one after the other, and what became of every request."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tests.support.posted import as_rows


@dataclass
class Answers:
    """Requests by the status answered; `lost` were sent and not answered, `refused` connections were not made."""

    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    refused: int = 0

    @property
    def total(self) -> int:
        """Requests answered."""
        return sum(self.statuses.values())


def predict_request(candles: pd.DataFrame) -> bytes:
    """`POST /predict` on the wire."""
    body = json.dumps({"candles": as_rows(candles)}).encode()
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def keep_posting(
    port: int,
    request: bytes,
    answers: Answers,
    enough: asyncio.Event | None = None,
    look_at: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Post over one connection, and a new one where it is closed, until `enough` is set or none can be made.

    Args:
        look_at: Called with every forecast.
    """
    while not (enough and enough.is_set()):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            answers.refused += 1
            return
        try:
            while not (enough and enough.is_set()):
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                body = await reader.readexactly(length)
                answers.statuses[int(head.split()[1])] += 1
                if look_at and head.split()[1] == b"200":
                    look_at(json.loads(body))
                if b"connection: close" in head:
                    break
        except (OSError, asyncio.IncompleteReadError):
            answers.lost += 1
        finally:
            writer.close()
