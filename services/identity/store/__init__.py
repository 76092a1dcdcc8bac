"""The database `identity`: references, profiles, merges, customers, consents, the timeline and how far it has come, API keys."""

from __future__ import annotations

from services.identity.store.consent_texts import ConsentTextDocument
from services.identity.store.customers import ConsentDocument, CustomerDocument, MentionDocument
from services.identity.store.graves import ErasureCountDocument, EventGraveDocument, GraveDocument
from services.identity.store.keys import KeysDocument
from services.identity.store.merges import LastNumberDocument, MergeDocument
from services.identity.store.names import NameDocument
from services.identity.store.outcomes import OutcomeDocument
from services.identity.store.positions import CommittedDocument, LogDocument, PublishedDocument
from services.identity.store.privacy import ArchiveDocument, PrivacyAnswerDocument, PrivacyRequestDocument
from services.identity.store.references import ProfileDocument, ReferenceDocument
from services.identity.store.timeline import EventDocument, SliceDocument

DATABASE = "identity"
DOCUMENTS = (
    ReferenceDocument, ProfileDocument, CustomerDocument, MentionDocument, NameDocument, ConsentDocument, EventDocument, SliceDocument,
    OutcomeDocument, MergeDocument, LastNumberDocument, CommittedDocument, LogDocument, PublishedDocument, KeysDocument,
    ConsentTextDocument, GraveDocument, EventGraveDocument, ErasureCountDocument,
    PrivacyRequestDocument, PrivacyAnswerDocument, ArchiveDocument,
)  # fmt: skip


def prepare() -> None:
    """Make the indexes; making them again changes nothing."""
    for document in DOCUMENTS:
        document.ensure_indexes()
