"""Reading of request bodies: JSON only, with limits on size, time and memory."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from service.http.problems import Refusal

TIMEOUT_S = 5.0
SLOWEST_BYTES_PER_S = 256 * 1024
_FREE = 64 * 1024
_BUDGET = 48 * 1024 * 1024
_READERS = 2_000


class BodyBudget:
    """Memory for bodies, shared by all requests of a process.

    The first 64 KiB of each body are free, so that slow clients and huge bodies do not hold up short requests.

    Args:
        capacity: Bytes of all bodies beyond their free part.
        readers: Most bodies that are read at once.
        timeout_s: Seconds until a body must be complete; SLOWEST_BYTES_PER_S received bytes add one second.
    """

    def __init__(self, capacity: int = _BUDGET, readers: int = _READERS, timeout_s: float = TIMEOUT_S) -> None:
        self._capacity = capacity
        self._most_readers = readers
        self._timeout_s = timeout_s
        self._held = 0
        self._readers = 0

    @property
    def held(self) -> int:
        """Bytes in use beyond the free parts."""
        return self._held

    async def read(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        """Read a whole body; the caller passes its length to `release` when done.

        Args:
            limit: Most bytes.

        Raises:
            Refusal: The headers do not announce JSON, the body is too large or too slow, the client disconnected, or
                memory is used up.
        """
        _require_acceptable(dict(scope["headers"]), limit)
        if self._readers >= self._most_readers:
            raise Refusal("overloaded", f"{self._readers:,} bodies are being read; retry later", retry_after_s=2)
        parts: list[bytes] = []
        size = 0
        clock = asyncio.get_running_loop()
        started = clock.time()
        self._readers += 1
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal("malformed-body", "the client disconnected before the body was complete")
                    part: bytes = message.get("body", b"")
                    if size + len(part) > limit:
                        raise _too_large(f"more than {limit:,}", limit)
                    self._take(size, size + len(part))
                    size += len(part)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return part if size == len(part) else b"".join(parts)
                    deadline.reschedule(started + self._timeout_s + size / SLOWEST_BYTES_PER_S)
        except TimeoutError as exc:
            self.release(size)
            late = f"{size:,} bytes of the body arrived within {clock.time() - started:.1f} s; send it without pauses"
            raise Refusal("body-too-slow", late, headers={"Connection": "close"}) from exc
        except BaseException:
            self.release(size)
            raise
        finally:
            self._readers -= 1

    def release(self, size: int) -> None:
        """Free the memory of a body of `size` bytes."""
        self._held -= max(0, size - _FREE)

    def _take(self, before: int, after: int) -> None:
        more = max(0, after - _FREE) - max(0, before - _FREE)
        if more and self._held + more > self._capacity:
            raise Refusal("overloaded", "too many large bodies are being read; retry later", retry_after_s=2)
        self._held += more


def _require_acceptable(headers: dict[bytes, bytes], limit: int) -> None:
    declared = headers.get(b"content-length", b"").decode("latin-1")
    if declared.isdecimal() and (len(declared) > 12 or int(declared) > limit):
        raise _too_large(declared, limit)
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        message = f"content-type is {media_type[:60]!r}; send content-type: application/json"
        raise Refusal("unsupported-media-type", message, field="content-type", value=media_type[:60])
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        message = f"content-encoding is {encoding[:60]!r}; send the body uncompressed"
        raise Refusal("unsupported-media-type", message, field="content-encoding", value=encoding[:60])


def _too_large(size: str, limit: int) -> Refusal:
    return Refusal(
        "body-too-large",
        f"the body has {size:.40} bytes, the limit is {limit:,}; send fewer candles, the newest",
        headers={"Connection": "close"},  # the rest of it is not read
    )
