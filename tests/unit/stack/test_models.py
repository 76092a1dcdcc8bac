"""`dear models`: a fit from the command line is the one that the running stack would make."""

from __future__ import annotations

import pytest

from services.segmentation.settings import SegmentationSettings
from stack.models import environment_of_fits

UP = {"kafka": "127.0.0.1:1", "mongodb": "mongodb://127.0.0.1:2"}


def test_a_fit_from_another_shell_is_made_with_the_settings_of_the_running_service(monkeypatch: pytest.MonkeyPatch) -> None:
    running = SegmentationSettings(scoring_model="music", defection_horizon_days=28, needs_by="category")
    for name, value in environment_of_fits(UP, running.of_fits()).items():
        monkeypatch.setenv(name, value)
    refit = SegmentationSettings()
    assert refit.of_fits() == running.of_fits() != SegmentationSettings.model_construct().of_fits()
    assert (refit.kafka_bootstrap_servers, refit.mongodb_uri) == (UP["kafka"], UP["mongodb"])
