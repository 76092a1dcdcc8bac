"""How a service other than identity learns which keys there are: it asks identity, every few seconds."""

from __future__ import annotations

from functools import cache
from ssl import SSLContext

import httpx
import msgspec

from shared.access.keys import Roster
from shared.streaming.errors import Unavailable

ROSTER_PATH = "/v1/keys/roster"
_TIMEOUT = httpx.Timeout(5.0)
_roster = msgspec.json.Decoder(Roster)


def bearer(credential: str | None) -> dict[str, str]:
    """The header that presents a credential, where there is one."""
    return {"Authorization": f"Bearer {credential}"} if credential else {}


@cache
def _certificates() -> SSLContext:
    """Read once: every client that reads them anew holds the stream up for tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


def identity_client(
    identity_url: str, timeout: httpx.Timeout, credential: str | None, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client that asks identity."""
    return httpx.AsyncClient(
        base_url=identity_url, timeout=timeout, transport=transport, trust_env=False, headers=bearer(credential), verify=_certificates()
    )


async def ask_identity(identity_url: str, credential: str | None, transport: httpx.AsyncBaseTransport | None = None) -> Roster:
    """The keys that identity knows. Raises Unavailable."""
    try:
        async with identity_client(identity_url, _TIMEOUT, credential, transport) as client:
            answer = await client.get(ROSTER_PATH)
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(f"identity's keys: {answer.status_code} {answer.text[:300]}")
        return _roster.decode(answer.content)
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        raise Unavailable(f"identity's keys: {error!r}") from error
