"""When a cron expression comes due, above all where clocks change. The expected times are Debian cron's rules."""

from __future__ import annotations

import builtins
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest

from py_orchestrate import _cron
from py_orchestrate._cron import check_cron, last_tick, next_tick, ticks_until

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")  # forward on 2030-03-31 at 02:00, back on 2030-10-27 at 03:00
YEAR_END = datetime(2031, 1, 1, tzinfo=UTC)


def ticks(cron: str, after: datetime, count: int, timezone: str = "Europe/Berlin") -> list[str]:
    zone = zoneinfo.ZoneInfo(timezone)
    found = islice(ticks_until(cron, timezone, after, YEAR_END), count)
    return [f"{tick.astimezone(zone):%m-%d %H:%M %Z}" for tick in found]


def berlin(month: int, day: int, hour: int = 0, minute: int = 0, *, fold: int = 0) -> datetime:
    return datetime(2030, month, day, hour, minute, tzinfo=BERLIN, fold=fold)


def test_an_hour_that_is_left_out_is_made_up_for_once() -> None:
    assert ticks("30 2 * * *", berlin(3, 30), 3) == ["03-30 02:30 CET", "03-31 03:00 CEST", "04-01 02:30 CEST"]
    assert ticks("0,30 2 * * *", berlin(3, 31), 3) == ["03-31 03:00 CEST", "04-01 02:00 CEST", "04-01 02:30 CEST"]
    assert ticks("15 1,2,3 * * *", berlin(3, 31), 3) == ["03-31 01:15 CET", "03-31 03:00 CEST", "03-31 03:15 CEST"]


def test_an_hour_that_comes_twice_counts_once() -> None:
    assert ticks("30 2 * * *", berlin(10, 26), 3) == ["10-26 02:30 CEST", "10-27 02:30 CEST", "10-28 02:30 CET"]
    assert ticks("0,30 2 * * *", berlin(10, 27, 1), 3) == ["10-27 02:00 CEST", "10-27 02:30 CEST", "10-28 02:00 CET"]


@pytest.mark.parametrize("minute", [0, 10, 30, 45])
def test_from_within_the_second_of_two_hours_it_never_goes_back(minute: int) -> None:
    after = berlin(10, 27, 2, minute, fold=1).astimezone(UTC)
    for cron in ("30 2 * * *", "0,30 2 * * *", "15 2,3 * * *"):
        tick = next_tick(cron, "Europe/Berlin", after)
        assert tick is not None
        assert tick > after
        assert tick - after <= timedelta(days=1, hours=1)


def test_what_recurs_goes_by_the_time_that_passes() -> None:
    for month, day in ((3, 31), (10, 27)):
        start = berlin(month, day).astimezone(UTC)
        for cron, step in (("*/20 * * * *", 20), ("0 * * * *", 60), ("* 1-4 * * *", 1)):
            found = list(ticks_until(cron, "Europe/Berlin", start, start + timedelta(hours=6)))
            steps = {late - early for early, late in pairwise(found)}
            assert steps == {timedelta(minutes=step)}, (cron, steps)


@pytest.mark.parametrize(
    ("timezone", "offset"),
    [("UTC", "+00:00"), ("Asia/Kolkata", "+05:30"), ("Asia/Kathmandu", "+05:45"), ("Pacific/Chatham", "+13:45")],
)
def test_time_zones_of_all_kinds(timezone: str, offset: str) -> None:
    tick = next_tick("30 2 * * *", timezone, datetime(2030, 1, 1, tzinfo=UTC))
    assert tick is not None
    assert tick.tzinfo is UTC
    local = tick.astimezone(zoneinfo.ZoneInfo(timezone))
    assert (local.hour, local.minute, local.isoformat()[-6:]) == (2, 30, offset)


def test_a_clock_change_of_half_an_hour() -> None:
    """Lord Howe Island: forward by 30 minutes on 2030-10-06 at 02:00."""
    assert ticks("15 2 * * *", datetime(2030, 10, 5, tzinfo=UTC), 2, "Australia/Lord_Howe") == [
        "10-06 02:30 +11",
        "10-07 02:15 +11",
    ]


def test_each_time_is_found_from_the_one_before_alike() -> None:
    for cron in ("30 2 * * *", "*/7 * * * *", "0 0 1 * *", "15 */5 * * mon", "*/20 30 2 * * *"):
        whole = list(islice(ticks_until(cron, "Europe/Berlin", berlin(3, 29), YEAR_END), 300))
        moment, one_by_one = berlin(3, 29).astimezone(UTC), []
        for _ in whole:
            found = next_tick(cron, "Europe/Berlin", moment)
            assert found is not None
            one_by_one.append(moment := found)
        assert one_by_one == whole


@pytest.mark.parametrize("cron", ["*/5 * * * * *", "*/5 * * * *", "30 2 * * *", "0 0 1 * *", "0 0 29 2 *", "0 0 1 1 *"])
@pytest.mark.parametrize("days", [0, 0.01, 0.5, 3, 40, 400, 3000])
def test_the_last_time_is_found_without_going_through_all(cron: str, days: float) -> None:
    until = datetime(2036, 7, 5, 3, 7, 11, tzinfo=UTC)
    after = until - timedelta(days=days)
    last = last_tick(cron, "Europe/Berlin", after, until)
    if cron.startswith("*/5") and days > 1:
        assert last == until.replace(second=10 if cron.count("*") == 6 else 0, minute=7 if cron.count("*") == 6 else 5)
    else:
        assert last == max(ticks_until(cron, "Europe/Berlin", after, until), default=None)


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        ("", "is no cron expression"),
        ("* * * *", "Wrong number of fields"),
        ("61 * * * *", "Bad minute"),
        ("* 25 * * *", "Bad hour"),
        ("* * * foo *", "Bad month"),
        ("@daily", "it has five fields, minute hour day month weekday"),
        ("0 0 31 2 *", "Bad day-of-month"),
    ],
)
def test_what_is_no_expression_is_refused(cron: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_cron(cron, "UTC")


@pytest.mark.parametrize("timezone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_what_is_no_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        check_cron("* * * * *", timezone)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="the times of a schedule are a cron expression, not int"):
        check_cron(5, "UTC")
    with pytest.raises(TypeError, match="the time zone of a schedule is the name of one, not ZoneInfo"):
        check_cron("* * * * *", BERLIN)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cronsim":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'py-orchestrate\[schedules\]'"):
        _cron.check_cron("* * * * *", "UTC")
