"""What a row's scores say, whatever its history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.scoring import Question, as_contract, score
from services.segmentation.domain.signs import Sign
from services.segmentation.shipped import load_shipped_models
from tests.unit.segmentation.histories import FIRST_DAY, Event, applied, event, events

MODELS = ("groceries", "music")


def told(history: list[Event], model: str = "groceries", today: int = FIRST_DAY + 30) -> list[dict[str, object]]:
    state = applied(history)
    ask = Question(today, load_shipped_models(model).shipped, Market())
    return as_contract(score(state, np.arange(state.count), ask), model)


@pytest.mark.parametrize("model", MODELS)
@given(history=events(300))
def test_every_buyer_has_two_reasons_and_a_prospect_none(model: str, history: list[Event]) -> None:
    for scores in told(history, model):
        assert len(set(scores["reasons"])) == (0 if scores["recency_days"] is None else 2)


def test_the_parts_of_the_risk_are_named_only_where_nothing_plainer_is_there() -> None:
    regular_who_came_today = [event(1, FIRST_DAY + day) for day in range(0, 31, 3)]
    (scores,) = told(regular_who_came_today)
    assert set(scores["reasons"]) == {Sign.BUYS_RARELY, Sign.MAY_HAVE_LEFT}

    (scores,) = told(regular_who_came_today, today=FIRST_DAY + 90)
    assert scores["reasons"] == (Sign.OVERDUE, Sign.LONG_SILENCE)


def test_who_bought_once_today_is_told_so_first() -> None:
    (scores,) = told([event(1, FIRST_DAY)], today=FIRST_DAY)
    assert scores["reasons"] == (Sign.BOUGHT_ONCE, Sign.BUYS_RARELY)
