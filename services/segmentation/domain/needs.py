"""Need segments: people who buy alike, found in what they buy more of than others do; for people to read, and for the words of offers.

Affinities (customers x categories, not below 0, decayed by whoever counts them) become TF-IDF, their 20 strongest directions, and 4 to 6
clusters. Everything is determined by the data and the seed; numbers and names are carried over from the model before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, issparse

from services.segmentation.domain.arrays import Floats, Integers, Mask

Affinities: TypeAlias = Any
"""An array or a sparse array of scipy's, customers x categories."""

NO_NEED = -1
"""The number of who has no affinity at all."""
SIZES = (4, 5, 6)
"""Segments that there may be. More are not stable: the same customers land elsewhere with every seed."""
MOST_NUMBERS = 8
"""Numbers that segments have: more than segments, so that a new need does not at once get the number of one that is gone."""
DIRECTIONS = 20
ENOUGH_CUSTOMERS = 200
"""Fewer say more about themselves than about needs."""
MOST_LEARNED = 50_000
"""Customers that are clustered, evenly chosen; the others are assigned."""
RESTARTS = 300
"""At most: so many that the tightest is nearly the same whatever the seed, which is where stability comes from."""
_FOUND_AGAIN = 8
"""Where the tightest has been found so many times, it is not looked for any longer."""
MOST_TRIED = 4000
"""Customers that runs are begun with; the tightest run then settles among all that are learned from."""
_SAME = 1e-9
_DIGITS = 9
_MOST_STEPS = 100
_LIKE = 0.5
"""Cosine of two segments' profiles from which on they are the same segment, found again."""
_NAMED = 2
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class NeedModel:
    """How to find everybody's segment; `centres` are rows, one a segment, and each has its number and its name."""

    categories: tuple[str, ...]
    weights: Floats
    """By category: how much rarer than everywhere it is (inverse document frequency)."""
    directions: Floats
    """Shape (categories, at most 20)."""
    centres: Floats
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    shares: tuple[float, ...]
    """Of the customers with any affinity."""

    def parameters(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "categories": list(self.categories),
            "weights": np.round(self.weights, 6).tolist(),
            "directions": np.round(self.directions, 6).tolist(),
            "segments": [
                {"number": number, "name": name, "share": round(share, 6), "centre": np.round(centre, 6).tolist()}
                for number, name, share, centre in zip(self.numbers, self.names, self.shares, self.centres, strict=True)
            ],
        }

    def profiles(self) -> Floats:
        """By segment: its centre in terms of categories, of length 1."""
        return _unit(self.centres @ self.directions.T)

    def strongest(self, most: int) -> tuple[tuple[str, ...], ...]:
        """By segment: the categories that tell it apart most from all customers together, strongest first."""
        profiles = self.profiles()
        apart = profiles - np.average(profiles, axis=0, weights=self.shares)
        return tuple(tuple(self.categories[at] for at in np.argsort(-row, kind="stable")[:most] if row[at] > 0) for row in apart)

    def with_columns(self, columns: Integers) -> NeedModel:
        """The same model with its categories in another order."""
        names = tuple(self.categories[column] for column in columns.tolist())
        return replace(self, categories=names, weights=self.weights[columns], directions=self.directions[columns])


def model_from(parameters: Mapping[str, Any]) -> NeedModel:
    """A model from its parameters. Raises KeyError where one is missing."""
    segments = parameters["segments"]
    return NeedModel(
        tuple(parameters["categories"]),
        np.array(parameters["weights"], dtype=np.float64),
        np.array(parameters["directions"], dtype=np.float64),
        np.array([each["centre"] for each in segments], dtype=np.float64),
        tuple(int(each["number"]) for each in segments),
        tuple(str(each["name"]) for each in segments),
        tuple(float(each["share"]) for each in segments),
    )


def fit_needs(
    affinities: Affinities, categories: Sequence[str], seed: int, before: NeedModel | None = None, sizes: Sequence[int] = SIZES
) -> NeedModel:
    """As many segments of these customers as lie farthest apart.

    Raises ValueError where there are too few, or too few categories, to tell needs apart."""
    rows = _rows(affinities)
    learned = _evenly(np.flatnonzero(_sums(rows) > 0), MOST_LEARNED)
    known = int((_column_counts(rows[learned]) > 0).sum())
    if len(learned) < ENOUGH_CUSTOMERS or known <= max(sizes):
        raise ValueError(f"{len(learned)} customers with {known} categories; needs take {ENOUGH_CUSTOMERS} and {max(sizes) + 1}")
    weights = np.log((1.0 + len(learned)) / (1.0 + _column_counts(rows[learned]))) + 1.0
    weighted = _weighted(rows[learned], weights)
    directions = _directions(weighted)
    points = np.asarray(weighted @ directions)
    chance = np.random.default_rng(seed)
    candidates = [_clustered(points, k, chance) for k in sizes]
    centres = max(candidates, key=lambda found: _apartness(points, found))
    # The largest first, so that numbers do not depend on the seed either.
    centres = centres[np.argsort(-np.bincount(_nearest(points, centres), minlength=len(centres)), kind="stable")]
    labels = _nearest(points, centres)
    shares = np.bincount(labels, minlength=len(centres)) / len(labels)
    names = _names(rows[learned], labels, len(centres), categories)
    numbers = tuple(range(len(centres)))
    found = NeedModel(tuple(categories), weights, directions, centres, numbers, names, tuple(shares.tolist()))
    return matched(found, before) if before is not None else found


def assign(affinities: Affinities, model: NeedModel) -> Integers:
    """Everybody's segment, by number; NO_NEED for who has no affinity."""
    rows, numbers = _rows(affinities), np.array(model.numbers, dtype=np.int64)
    found = np.full(rows.shape[0], NO_NEED, dtype=np.int64)
    for start in range(0, rows.shape[0], _CHUNK):
        part = rows[start : start + _CHUNK]
        points = np.asarray(_weighted(part, model.weights) @ model.directions)
        # Rounded, so that who is asked about together with whom never decides between two that are equally near.
        labels = np.round(_nearness(points, model.centres), _DIGITS).argmin(axis=1)
        found[start : start + _CHUNK] = np.where(_sums(part) > 0, numbers[labels], NO_NEED)
    return found


def matched(model: NeedModel, before: NeedModel) -> NeedModel:
    """The same segments under the numbers and names that the most alike had before (Hungarian method).

    A new one gets a number that is free, and only where there is none that of one that is gone."""
    places = {category: place for place, category in enumerate(before.categories)}
    common = [(place, places[category]) for place, category in enumerate(model.categories) if category in places]
    ours, theirs = (np.array([pair[side] for pair in common], dtype=np.int64) for side in (0, 1))
    alike = model.profiles()[:, ours] @ before.profiles()[:, theirs].T
    old = {new: place for new, place in zip(*linear_sum_assignment(-alike), strict=True) if alike[new, place] >= _LIKE}
    kept = {before.numbers[place] for place in old.values()}
    free = iter(sorted(set(range(MOST_NUMBERS)) - kept, key=lambda number: (number in before.numbers, number)))
    numbers = tuple(before.numbers[old[new]] if new in old else next(free) for new in range(len(model.numbers)))
    taken = {before.names[place] for place in old.values()}
    names = tuple(
        before.names[old[new]] if new in old else name if name not in taken else f"{name} ({number + 1})"
        for new, (name, number) in enumerate(zip(model.names, numbers, strict=True))
    )
    return replace(model, numbers=numbers, names=names)


def _rows(affinities: Affinities) -> Any:
    return csr_array(affinities) if issparse(affinities) else np.asarray(affinities, dtype=np.float64)


def _sums(rows: Any) -> Floats:
    return np.asarray(rows.sum(axis=1), dtype=np.float64).reshape(-1)


def _column_counts(rows: Any) -> Floats:
    held = (rows > 0).sum(axis=0)
    return np.asarray(held, dtype=np.float64).reshape(-1)


def _evenly(rows: Integers, most: int) -> Integers:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _weighted(rows: Any, weights: Floats) -> Any:
    """TF-IDF, each row of length 1; the tenth pack of milk says less than the first."""
    damped = np.log1p(rows) if not issparse(rows) else rows.log1p()
    weighted = damped.multiply(weights[None, :]).tocsr() if issparse(rows) else damped * weights
    squares = weighted.multiply(weighted) if issparse(rows) else weighted * weighted
    lengths = np.sqrt(_sums(squares))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return weighted.multiply(scale[:, None]).tocsr() if issparse(rows) else weighted * scale[:, None]


def _directions(weighted: Any) -> Floats:
    """The strongest right singular vectors, by way of the small categories x categories product: no randomness, and each with a sign."""
    product = weighted.T @ weighted
    _, vectors = np.linalg.eigh(product.toarray() if issparse(product) else product)
    strongest = vectors[:, ::-1][:, :DIRECTIONS]
    signs = np.sign(strongest[np.abs(strongest).argmax(axis=0), np.arange(strongest.shape[1])])
    directions: Floats = np.ascontiguousarray(strongest * signs)
    return directions


def _unit(points: Floats) -> Floats:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    units: Floats = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
    return units


def _distances(points: Floats, centres: Floats) -> Floats:
    """Squared, shape (points, centres)."""
    lengths = np.einsum("ij,ij->i", points, points)[:, None]
    distances: Floats = np.maximum(lengths - 2.0 * points @ centres.T + (centres**2).sum(axis=1), 0.0)
    return distances


def _nearest(points: Floats, centres: Floats) -> Integers:
    nearest: Integers = _nearness(points, centres).argmin(axis=1)
    return nearest


def _nearness(points: Floats, centres: Floats) -> Floats:
    """Squared distances, less a point's own length, which is the same for all centres."""
    nearness: Floats = (centres**2).sum(axis=1) - 2.0 * points @ centres.T
    return nearness


def _clustered(points: Floats, k: int, chance: np.random.Generator) -> Floats:
    """K-means: the tightest of several runs, each begun with far-apart points (k-means++)."""
    few = points[_evenly(np.arange(len(points)), MOST_TRIED)]
    best, least, times = points[:k], np.inf, 0
    for _ in range(RESTARTS):
        tried = _settled(few, _begun(few, k, chance))
        found = _tightness(few, tried)
        if found < least - _SAME * found:
            best, least, times = tried, found, 1
        elif found <= least + _SAME * found:
            times += 1
        if times == _FOUND_AGAIN:
            break
    return _settled(points, best)


def _begun(points: Floats, k: int, chance: np.random.Generator) -> Floats:
    centres: Floats = points[chance.integers(len(points))][None, :]
    while len(centres) < k:
        apart = _distances(points, centres).min(axis=1)
        whole = apart.sum()
        place = chance.choice(len(points), p=apart / whole) if whole > 0 else chance.integers(len(points))
        centres = np.vstack([centres, points[place]])
    return centres


def _tightness(points: Floats, centres: Floats) -> float:
    return float(_distances(points, centres).min(axis=1).sum())


def _settled(points: Floats, centres: Floats) -> Floats:
    labels = np.full(len(points), NO_NEED)
    for _ in range(_MOST_STEPS):
        nearest = _nearest(points, centres)
        if (nearest == labels).all():
            break
        labels = nearest
        held = np.zeros((len(centres), len(points)))
        held[labels, np.arange(len(points))] = 1.0
        counts = held.sum(axis=1)
        # A centre that lost everybody stays where it is.
        centres = np.where(counts[:, None] > 0, held @ points / np.maximum(counts, 1)[:, None], centres)
    return centres


def _apartness(points: Floats, centres: Floats) -> float:
    """How much nearer customers are to their own centre than to the next, on average (a silhouette by centres)."""
    nearest = np.sqrt(np.sort(_distances(points, centres), axis=1)[:, :2])
    return float(np.mean(1.0 - nearest[:, 0] / np.maximum(nearest[:, 1], 1e-12)))


def _names(rows: Any, labels: Integers, k: int, categories: Sequence[str]) -> tuple[str, ...]:
    """What a segment buys more of than everybody, by how much that tells it apart; no two have the same name."""
    spread = np.vstack([_spread(rows, labels == label) for label in range(k)])
    whole = np.maximum(_spread(rows, np.ones(len(labels), dtype=bool)), 1e-12)
    telling = spread * np.log(np.maximum(spread, 1e-12) / whole)
    names: list[str] = []
    for row in telling:
        order = [categories[place].capitalize() for place in np.argsort(-row, kind="stable")]
        name = next(
            name for count in range(_NAMED, len(order) + _NAMED) if (name := ", ".join(order[:count])) not in names or count > len(order)
        )
        names.append(name)
    return tuple(names)


def _spread(rows: Any, who: Mask) -> Floats:
    """The mean over customers of what share each category has with them."""
    part = rows[np.flatnonzero(who)]
    sums = _sums(part)
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    shares: Floats = np.asarray(part.T @ scale, dtype=np.float64).reshape(-1) / max(len(sums), 1)
    return shares
