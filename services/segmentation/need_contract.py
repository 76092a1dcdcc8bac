"""A need model as it is published, and read back."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.needs import NeedModel
from shared.contracts.scores import NeedModelPublished, NeedSegment

MOST_CATEGORIES = 64
"""Of a published model: the most bought ones. With 20 directions it has some 15 KB."""
_NAMED = 3
_LONGEST = 256
_DIGITS = 6


def published_needs(model: NeedModel, version: int, customers: int, fitted_at: datetime) -> NeedModelPublished:
    """What others are told of a model. What is read back from it labels as it does; numbers begin with 1."""
    parts = zip(model.numbers, model.names, model.strongest(_NAMED), model.shares, model.centres, strict=True)
    return NeedModelPublished(
        version=version,
        fitted_at=fitted_at,
        customers=customers,
        categories=model.categories,
        weights=tuple(np.round(model.weights, _DIGITS).tolist()),
        directions=tuple(tuple(row) for row in np.round(model.directions, _DIGITS).tolist()),
        segments=tuple(
            NeedSegment(
                number=number + 1,
                name=name[:_LONGEST],
                categories=categories,
                share=round(share, _DIGITS),
                centre=tuple(np.round(centre, _DIGITS).tolist()),
            )
            for number, name, categories, share, centre in parts
        ),
    )


def need_labels_from(published: NeedModelPublished) -> NeedLabels:
    """A model read back. Raises ValueError where its parts do not fit together."""
    segments = published.segments
    model = NeedModel(
        published.categories,
        np.array(published.weights, dtype=np.float64),
        np.array(published.directions, dtype=np.float64),
        np.array([each.centre for each in segments], dtype=np.float64),
        tuple(each.number - 1 for each in segments),
        tuple(each.name for each in segments),
        tuple(each.share for each in segments),
    )
    width = model.centres.shape[-1]
    if model.weights.shape != (len(model.categories),) or model.directions.shape != (len(model.categories), width):
        raise ValueError(f"need model {published.version}: weights, directions and centres are of different sizes")
    return NeedLabels(model, published.version)
