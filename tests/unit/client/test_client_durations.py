from __future__ import annotations

import pytest

from wsclean_client.durations import parse, write


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1d2h3m4.5s", 93784.5),
        (" 1H30M ", 5400),
    ],
)
def test_length_of_time_is_read(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "0s", "0h0m", "-5", "1e3", "nan", "inf", "5x", "30m1h", "1h30", "1 h", "s", "."],
)
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse(text)


def test_length_that_no_job_has_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse("99999999d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.04, "0.0s"),
        (59.9, "59.9s"),
        (60, "1m00s"),
        (3725, "1h02m"),
        (90000, "1d01h"),
    ],
)
def test_length_of_time_is_written(seconds: float | None, text: str) -> None:
    assert write(seconds) == text
