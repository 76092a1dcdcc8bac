"""Links that end marketing with one click: a message's id and a signature, so that nobody can end it for somebody else."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

ID_BYTES = 16
SIGNATURE_BYTES = 16


class BadToken(ValueError):
    """It was not made here, or not copied whole."""


def token_for(message_id: str, key: bytes) -> str:
    """The token of a message, as it stands in a link."""
    raw = bytes.fromhex(message_id)
    return urlsafe_b64encode(raw + _signature(raw, key)).decode().rstrip("=")


def message_of(token: str, key: bytes) -> str:
    """The id of the message that carried the token. Raises BadToken."""
    try:
        signed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (NotBase64, ValueError) as error:
        raise BadToken("not a token") from error
    raw, signature = signed[:ID_BYTES], signed[ID_BYTES:]
    if not hmac.compare_digest(signature, _signature(raw, key)):
        raise BadToken("the signature does not fit")
    return raw.hex()


def _signature(raw: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"unsubscribe" + raw, "sha256")[:SIGNATURE_BYTES]
