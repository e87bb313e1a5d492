"""Client of Binance's public archive: monthly and daily files of candles, checked against their checksums."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pandas as pd
import requests

from candlecast.archive.files import ArchiveFile, candles_in
from candlecast.errors import ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.answers import BANNED_OR_LIMITED
from candlecast.exchange.requests import TRANSIENT, SessionClient, open_session, retries, retry_after_s

_REMEDY = "Run the backfill again later, or set CANDLECAST_ARCHIVE_URL to a mirror"


class ArchiveClient(SessionClient):
    """Files of the archive, each checked against its published SHA-256; safe to share between threads.

    Transient failures and wrong checksums are retried up to four times within about 30 s.

    Args:
        base_url: Address before `/data/spot`, e.g. `https://data.binance.vision`.
        timeout_s: Limit on connecting, and on each wait for bytes, of one request.
        session: Requests session to use instead of a new one; closed with the client.

    Raises:
        ConfigurationError: `base_url` is not an http address.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float = 10,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = session or open_session(self.base_url, "CANDLECAST_ARCHIVE_URL")
        self._retrying = retries(sleep)

    def candles(self, file: ArchiveFile) -> pd.DataFrame | None:
        """Download the candles of one file.

        Returns:
            Closed candles, `CANDLE_COLUMNS` as float64, indexed by UTC open_time in the file's order. None if the
            archive does not have the file (HTTP 404).

        Raises:
            ExchangeUnavailable: No answer, or a wrong checksum, after retries.
            ExchangeRejected: The archive does not serve this client.
            InvalidCandles: The published file holds invalid candles.
        """
        zipped: bytes | None = self._retrying(self._verified, file)
        return None if zipped is None else candles_in(file, zipped)

    def _verified(self, file: ArchiveFile) -> bytes | None:
        zipped = self._get(file.path)
        if zipped is None:
            return None
        published = (self._get(f"{file.path}.CHECKSUM") or b"").decode("ascii", "replace").split()
        digest = hashlib.sha256(zipped).hexdigest()
        if published[:1] != [digest]:
            raise ExchangeUnavailable(
                f"archive file {file.name} from {self.base_url}: its SHA-256 is {digest}, but its .CHECKSUM says "
                f"{published[0] if published else 'nothing'}. {_REMEDY}; nothing from the file is stored"
            )
        return zipped

    def _get(self, path: str) -> bytes | None:
        what = f"archive file {self.base_url}{path}"
        try:
            response = self._session.get(self.base_url + path, timeout=self._timeout_s)
        except TRANSIENT as exc:
            raise ExchangeUnavailable(f"{what}: {exc}. {_REMEDY}") from exc
        except requests.RequestException as exc:
            raise ExchangeRejected(f"{what}: {exc}; correct CANDLECAST_ARCHIVE_URL") from exc
        status = response.status_code
        if status == 404:
            return None
        if status >= 500 or status in BANNED_OR_LIMITED:
            raise ExchangeUnavailable(f"{what}: HTTP {status}. {_REMEDY}", retry_after_s(response))
        if status != 200:
            raise ExchangeRejected(
                f"{what}: HTTP {status}; set CANDLECAST_ARCHIVE_URL to an address that serves your location or network"
            )
        return response.content
