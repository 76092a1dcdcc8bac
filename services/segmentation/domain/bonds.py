"""The four bonds of a relationship (Berry and Parasuraman 1991; Zeithaml, Bitner and Gremler): what ties a customer to us."""

from __future__ import annotations

from types import MappingProxyType

BONDS = ("financial", "social", "customization", "structural")
"""By bit: append, never reorder."""

_KINDS = {
    "financial": ("CouponRedeemed", "Coupon Applied", "PointsRedeemed", "VoucherRedeemed"),
    "social": ("CommunityJoined", "EventAttended", "FriendReferred", "ReviewWritten", "Product Reviewed", "Product Shared", "Cart Shared"),
    "customization": ("NeedStated", "SurveyAnswered", "PreferenceSaved", "WishlistCreated", "Product Added to Wishlist"),
    "structural": ("SubscriptionStarted", "ContractSigned", "AppInstalled", "AssetRegistered", "AccountLinked"),
}
BOND_OF_KIND = MappingProxyType({kind: 1 << bit for bit, bond in enumerate(BONDS) for kind in _KINDS[bond]})
"""The bit of the bond that an interaction shows; of others none. A bond that was there once stays: its end is nobody's event."""


def bonds_of(bits: int) -> tuple[str, ...]:
    """The names of the bonds whose bits are set."""
    return tuple(bond for bit, bond in enumerate(BONDS) if bits >> bit & 1)
