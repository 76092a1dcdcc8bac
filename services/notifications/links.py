"""The links in a mail: each holds the message's id and a signature, so that nobody can make one up, or turn it to another use or target."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from enum import StrEnum
from urllib.parse import quote

ID_BYTES = 16
SIGNATURE_BYTES = 16
LONGEST_TARGET = 2000

_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?([/?#][A-Za-z0-9%/?#\[\]@!$&'()*+,;=:._~-]*)?")
"""What every browser reads as we do: no white space, no backslash, nobody's name before the host."""


class BadToken(ValueError):
    """It was not made here, or not copied whole."""


class NotALink(ValueError):
    """No mail may lead there."""


class Use(StrEnum):
    """What a link is for. No use begins like another, so what is signed can be read in one way only."""

    UNSUBSCRIBE = "unsubscribe"
    OPEN = "open"
    CLICK = "click"


class Links:
    """Makes links that lead to this service, and reads them again."""

    def __init__(self, public_url: str) -> None:
        self._root = f"{public_url.rstrip('/')}/v1"
        self._key: bytes | None = None

    def use_key(self, key: bytes) -> None:
        """Sign with this key from now on."""
        self._key = key

    @property
    def has_key(self) -> bool:
        """Can links be made and read?"""
        return self._key is not None

    def unsubscribe(self, message_id: str) -> str:
        """Where marketing is ended with one click."""
        return self._link(Use.UNSUBSCRIBE, message_id)

    def pixel(self, message_id: str) -> str:
        """The picture that a mail program loads when it shows the mail."""
        return self._link(Use.OPEN, message_id)

    def tracked(self, message_id: str, target: str) -> str:
        """The way to the target past this service."""
        return f"{self._link(Use.CLICK, message_id, target)}?to={quote(target, safe='')}"

    def message_behind(self, use: Use, token: str, target: str = "") -> str:
        """The id of the message that carried the token, for this use and no other target. Raises BadToken."""
        return message_of(use, token, self._signing_key(), target)

    def _link(self, use: Use, message_id: str, target: str = "") -> str:
        return f"{self._root}/{use}/{token_for(use, message_id, self._signing_key(), target)}"

    def _signing_key(self) -> bytes:
        if self._key is None:
            raise RuntimeError("the service has not started: there is no key to sign links with")
        return self._key


def web_address(target: str) -> str:
    """The target, if a mail may lead there: a web address, written out. Raises NotALink."""
    if not _WEB_ADDRESS.fullmatch(target) or len(target) > LONGEST_TARGET:
        raise NotALink(f"a link must be a web address, http://… or https://…, with everything unusual percent-encoded: {target[:100]!r}")
    return target


def token_for(use: Use, message_id: str, key: bytes, target: str = "") -> str:
    """The token of a message, as it stands in a link."""
    raw = bytes.fromhex(message_id)
    return urlsafe_b64encode(raw + _signature(use, raw, key, target)).decode().rstrip("=")


def message_of(use: Use, token: str, key: bytes, target: str = "") -> str:
    """The id of the message that carried the token. Raises BadToken."""
    try:
        signed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (NotBase64, ValueError) as error:
        raise BadToken("not a token") from error
    raw, signature = signed[:ID_BYTES], signed[ID_BYTES:]
    if not hmac.compare_digest(signature, _signature(use, raw, key, target)):
        raise BadToken("the signature does not fit")
    return raw.hex()


def _signature(use: Use, raw: bytes, key: bytes, target: str) -> bytes:
    return hmac.digest(key, use.encode() + raw + target.encode(errors="surrogatepass"), "sha256")[:SIGNATURE_BYTES]
