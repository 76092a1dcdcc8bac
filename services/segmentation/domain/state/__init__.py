"""One row a profile, in columns: what arrives in any order ends in the same row."""

from services.segmentation.domain.state.apply import Changed, apply_events
from services.segmentation.domain.state.packing import UnknownFormat, Written, pack, restore, unpack
from services.segmentation.domain.state.rows import CustomerState

__all__ = ["Changed", "CustomerState", "UnknownFormat", "Written", "apply_events", "pack", "restore", "unpack"]
