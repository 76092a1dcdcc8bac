"""Night, also where the clock is put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.quiet_hours import QuietHours

NEW_YORK = ZoneInfo("America/New_York")


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_over_midnight_it_ends_in_the_morning():
    quiet = QuietHours.parse("21:00-08:00")
    assert quiet.end_after(utc(2017, 6, 1, 21, 0), ZoneInfo("UTC")) == utc(2017, 6, 2, 8)
    assert quiet.end_after(utc(2017, 6, 2, 7, 59), ZoneInfo("UTC")) == utc(2017, 6, 2, 8)
    assert quiet.end_after(utc(2017, 6, 2, 8, 0), ZoneInfo("UTC")) is None
    assert quiet.end_after(utc(2017, 6, 2, 20, 59), ZoneInfo("UTC")) is None


def test_within_one_day_it_ends_the_same_day():
    quiet = QuietHours.parse("12:00-14:30")
    assert quiet.end_after(utc(2017, 6, 1, 13), ZoneInfo("UTC")) == utc(2017, 6, 1, 14, 30)
    assert quiet.end_after(utc(2017, 6, 1, 15), ZoneInfo("UTC")) is None


def test_equal_ends_mean_never():
    assert QuietHours.parse("00:00-00:00").end_after(utc(2017, 6, 1, 3), ZoneInfo("UTC")) is None


def test_the_night_the_clock_goes_forward_is_an_hour_shorter():
    quiet = QuietHours.parse("21:00-08:00")
    saturday_nine = utc(2017, 3, 12, 2)  # 21:00 of the 11th in New York, still winter time.
    assert quiet.end_after(saturday_nine, NEW_YORK) == utc(2017, 3, 12, 12)  # 08:00 of the 12th, summer time.


def test_the_night_the_clock_goes_back_is_an_hour_longer():
    quiet = QuietHours.parse("21:00-08:00")
    saturday_nine = utc(2017, 11, 5, 1)  # 21:00 of the 4th, summer time.
    assert quiet.end_after(saturday_nine, NEW_YORK) == utc(2017, 11, 5, 13)  # 08:00 of the 5th, winter time.


def test_an_end_that_the_clock_skips_is_the_moment_after_the_gap():
    quiet = QuietHours.parse("21:00-02:30")
    end = quiet.end_after(utc(2017, 3, 12, 6, 59), NEW_YORK)  # 01:59; there is no 02:30 that night.
    assert end is not None
    assert not quiet.cover(end.astimezone(NEW_YORK))
    assert end <= utc(2017, 3, 12, 7, 30)


def test_an_hour_that_comes_twice_is_quiet_twice():
    quiet = QuietHours.parse("21:00-01:30")
    assert quiet.end_after(utc(2017, 11, 5, 6, 10), NEW_YORK) == utc(2017, 11, 5, 6, 30)  # The second 01:10 ends at the second 01:30.


@pytest.mark.parametrize("text", ["", "21:00", "21-8pm", "25:00-08:00"])
def test_what_is_not_two_times_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        QuietHours.parse(text)


times = st.times().map(lambda at: at.replace(second=0, microsecond=0))
moments = st.integers(946684800, 1893456000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
zones = st.sampled_from(["America/New_York", "Australia/Lord_Howe", "Asia/Bangkok", "Europe/London", "Pacific/Apia", "Asia/Kathmandu"]).map(
    ZoneInfo
)


@given(times, times, moments, zones)
def test_the_end_is_later_not_quiet_and_soon(start: time, end: time, now: datetime, zone: ZoneInfo):
    quiet = QuietHours(start, end)
    until = quiet.end_after(now, zone)
    if until is None:
        assert not quiet.cover(now.astimezone(zone))
    else:
        assert now < until <= now + timedelta(hours=50)  # Samoa once left out a whole day.
        assert not quiet.cover(until.astimezone(zone))
