"""Reading the links that come back, with the key that they were signed with."""

from __future__ import annotations

from services.notifications.links import Links, Use
from services.notifications.store import suppressions
from shared.mongo import in_store


class SignedLinks:
    """The key never changes, so one look into the database is enough; a process that only answers requests has no other time for it."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def message_behind(self, use: Use, token: str, target: str = "") -> str:
        """The id of the message that carried the token, for this use and no other target. Raises BadToken and Unavailable."""
        if not self._links.has_key:
            self._links.use_key(await in_store(suppressions.signing_key))
        return self._links.message_behind(use, token, target)
