"""What the ways in take, as the description of the API says it: events by our contracts, the other dialects by what is read of them."""

from __future__ import annotations

from typing import Any

from services.identity.domain.cloudevents import STRUCTURED
from services.identity.domain.events import OFFERED_MODELS
from services.identity.domain.segment import MESSAGE_TYPES
from shared.contracts.envelope import EventData
from shared.contracts.schema import schema_of

Schema = dict[str, Any]

BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": ["string", "number"]}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": ["object", "array"]}
_FLAG: Schema = {"type": ["boolean", "string"]}
_TIME: Schema = {"type": "string", "format": "date-time"}


def takes(content: dict[str, Schema], headers: dict[str, Schema] | None = None) -> Schema:
    """The description of a route that takes one of these, by media type, and looks at these headers."""
    body = {"required": True, "content": {media: {"schema": schema} for media, schema in content.items()}}
    described = [{"name": name, "in": "header", "required": False, "schema": schema} for name, schema in (headers or {}).items()]
    return {"requestBody": body, **({"parameters": described} if described else {})}


def _an_object(properties: dict[str, Schema], *required: str, says: str = "") -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return found | ({"required": list(required)} if required else {}) | ({"description": says} if says else {})


def _one_of_ours(model: type[EventData]) -> Schema:
    """An event of ours, whole in itself: its parts are no components of this API."""
    schema = schema_of(model)
    found: Schema = _without_references(schema, schema.get("$defs", {}))
    return {**found, "properties": {**found["properties"], "type": {"const": model.event_type}}}


def _without_references(found: Any, parts: dict[str, Any]) -> Any:
    if isinstance(found, list):
        return [_without_references(each, parts) for each in found]
    if not isinstance(found, dict):
        return found
    if "$ref" in found:
        return _without_references(parts[found["$ref"].rpartition("/")[2]], parts)
    return {name: _without_references(value, parts) for name, value in found.items() if name != "$defs"}


_EVENTS = [_one_of_ours(model) for model in OFFERED_MODELS]
_EVENT: Schema = {"oneOf": _EVENTS}
_DATA: Schema = {"anyOf": [each["properties"]["data"] for each in _EVENTS]}
EVENTS = takes(
    {STRUCTURED: _EVENT, BATCH: {"type": "array", "items": _EVENT}, _JSON: _DATA},
    {
        "ce-specversion": {"const": "1.0", "description": "In binary mode, as those that follow."},
        "ce-id": {**_TEXT, "description": "Blanks, quotes, percent signs and what is beyond ASCII are percent-encoded."},
        "ce-source": {**_TEXT, "description": "Who tells of it."},
        "ce-type": {"enum": [model.event_type for model in OFFERED_MODELS]},
        "ce-time": {**_TIME, "description": "When it happened."},
    },
)

_SEGMENT: dict[str, Schema] = {
    "messageId": {**_TEXT, "description": "Names the message for ever; a message that is sent again has the same."},
    "userId": _NUMBER,
    "anonymousId": {**_TEXT, "description": "The device; a userId or an anonymousId is needed."},
    "timestamp": _TIME,
    "sentAt": {**_TIME, "description": "By the sender's clock, which is corrected by it."},
    "context": _an_object(
        {"traits": {**_OBJECT, "description": "What else the person is called: `email`, `phone`, `line`, `loyalty_card`."}}
    ),
    "writeKey": {**_TEXT, "description": "A key with the scope `ingest`, where the header has none."},
}
_NAMED: dict[str, Schema] = {"name": _TEXT, "category": _TEXT, "properties": _OBJECT}
_CALLS: dict[str, tuple[dict[str, Schema], tuple[str, ...]]] = {
    "track": ({"event": {**_TEXT, "description": "What happened, such as `Order Completed`."}, "properties": _OBJECT}, ("event",)),
    "identify": ({"traits": _OBJECT}, ()),
    "page": (_NAMED, ()),
    "screen": (_NAMED, ()),
    "group": ({"groupId": _NUMBER, "traits": _OBJECT}, ("groupId",)),
    "alias": ({"previousId": _NUMBER}, ("userId",)),
}


def _call(kind: str, more: dict[str, Schema] | None = None) -> Schema:
    own, required = _CALLS[kind]
    named = {"anyOf": [{"required": ["userId"]}, {"required": ["anonymousId"]}]}
    return _an_object({**_SEGMENT, **own, **(more or {})}, *required, *(more or {})) | named


_SEGMENT_BATCH = _an_object(
    {
        "batch": {"type": "array", "items": {"oneOf": [_call(kind, {"type": {"const": kind}}) for kind in MESSAGE_TYPES]}},
        "sentAt": _SEGMENT["sentAt"],
        "writeKey": _SEGMENT["writeKey"],
    },
    "batch",
)
SEGMENT = {kind: takes({_JSON: _call(kind)}) for kind in MESSAGE_TYPES} | {"batch": takes({_JSON: _SEGMENT_BATCH})}

_ITEM = _an_object(
    {"ItemID": _NUMBER, "Quantity": _NUMBER, "ExtendedAmount": _NUMBER, "MerchandiseHierarchy": {"type": ["object", "array"]}}
)
_LINE = _an_object(
    {
        "SequenceNumber": _NUMBER,
        "VoidFlag": _FLAG,
        "Sale": _ITEM,
        "Return": _ITEM,
        "Discount": _an_object({"Amount": _NUMBER}),
        "Tender": _OBJECT,
    },
    says="One of POSLog's kinds of lines; what is no goods changes nothing.",
)
_TRANSACTION = _an_object(
    {
        "BusinessUnit": _an_object({"ID": _NUMBER}),
        "WorkstationID": _NUMBER,
        "SequenceNumber": _NUMBER,
        "BusinessDayDate": {"type": "string", "format": "date"},
        "EndDateTime": {**_TEXT, "description": "With a zone, or in the store's."},
        "CurrencyCode": _TEXT,
        "TransactionStatus": _TEXT,
        "TrainingModeFlag": _FLAG,
        "CancelFlag": _FLAG,
        "RetailTransaction": _an_object(
            {
                "LoyaltyAccount": _an_object({"LoyaltyAccountID": _NUMBER}),
                "Customer": _an_object({"CustomerID": _NUMBER}),
                "LineItem": {"type": "array", "items": _LINE},
                "TransactionLink": _OBJECTS,
            }
        ),
    },
    "RetailTransaction",
    says="A transaction of POSLog 6.",
)
_TRANSACTIONS = _an_object({"Transaction": {"type": "array", "items": _TRANSACTION}}, "Transaction")
POSLOG = takes(
    {
        _JSON: {
            "oneOf": [
                _TRANSACTION,
                {"type": "array", "items": _TRANSACTION},
                _TRANSACTIONS,
                _an_object({"POSLog": _TRANSACTIONS}, "POSLog"),
            ]
        }
    }
)

_PAID = _an_object({"sku": _TEXT, "quantity": {"type": "integer"}, "price": _NUMBER})
_ORDER = _an_object(
    {
        "id": {"type": "integer"},
        "created_at": _TIME,
        "currency": _TEXT,
        "total_price": _NUMBER,
        "financial_status": _TEXT,
        "customer": _an_object({"id": {"type": "integer"}, "email": _TEXT, "phone": {"type": ["string", "null"]}, "updated_at": _TIME}),
        "line_items": {"type": "array", "items": _PAID},
    },
    "id",
    says="Shopify's order, as `orders/create` and `orders/updated` bring it.",
)
_REFUND = _an_object(
    {"id": {"type": "integer"}, "order_id": {"type": "integer"}, "created_at": _TIME, "transactions": {"type": "array", "items": _OBJECT}},
    "id",
    "order_id",
    says="Shopify's refund, as `refunds/create` brings it.",
)
SHOPIFY = takes(
    {_JSON: {"anyOf": [_ORDER, _REFUND]}},
    {
        "X-Shopify-Topic": {"enum": ["orders/create", "orders/updated", "refunds/create"], "description": "Others change nothing."},
        "X-Shopify-Shop-Domain": {**_TEXT, "description": "The store of its purchases."},
    },
) | {
    "security": [{"shopify": []}],
    "x-security-schemes": {
        "shopify": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Shopify-Hmac-Sha256",
            "description": "The HMAC-SHA256 of the very bytes of the body under one of `DEAR_SHOPIFY_WEBHOOK_SECRETS`, in base64.",
        }
    },
}

_SUCCESS: Schema = {"type": "boolean", "description": "Of Segment's calls: is all of it accepted?"}
_VERDICT = _an_object(
    {
        "success": _SUCCESS,
        "index": {"type": "integer", "description": "Of the item in the request."},
        "status": {"type": "integer"},
        "source": _TEXT,
        "id": _TEXT,
        "ignored": {**_TEXT, "description": "It was understood, and changes nothing: why."},
        "problem": {**_OBJECT, "description": "What is wrong with it, as RFC 9457 says it."},
    },
    "index",
    "status",
)
_VERDICTS = _an_object(
    {"success": _SUCCESS, "accepted": {"type": "integer"}, "items": {"type": "array", "items": _VERDICT}}, "accepted", "items"
)


def answers(status: int, says: str, *, is_one: bool = False, is_many: bool = True) -> dict[int | str, dict[str, Any]]:
    """What is answered where the request is taken."""
    schemas = [_VERDICT] * is_one + [_VERDICTS] * is_many
    return {status: {"description": says, "content": {_JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}}}
