"""One row a profile, in columns: what arrives in any order ends in the same row."""

from services.segmentation.domain.state.apply import Changed, apply_events
from services.segmentation.domain.state.packing import FORMAT, LastChange, PackedRows, Written, is_readable, pack, restore, unpack
from services.segmentation.domain.state.rows import CustomerState

__all__ = [
    "FORMAT",
    "Changed",
    "CustomerState",
    "LastChange",
    "PackedRows",
    "Written",
    "apply_events",
    "is_readable",
    "pack",
    "restore",
    "unpack",
]
