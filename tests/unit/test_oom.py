from __future__ import annotations

from wsclean_workerd.oom import OomKills


def test_a_count_that_has_risen_explains_the_end() -> None:
    kills = OomKills()
    assert not kills.explain("c", 10, 3, 3)
    assert kills.explain("c", 20, 3, 4)


def test_jobs_that_are_killed_at_once_are_all_explained() -> None:
    kills = OomKills()
    assert kills.explain("c", 10.0, 0, 2)
    assert kills.explain("c", 10.1, 0, 2)


def test_what_ended_another_job_before_does_not_explain_a_later_end() -> None:
    kills = OomKills()
    assert kills.explain("c", 10, 0, 1)
    # Killed by hand, in a lane that has not looked since the container began.
    assert not kills.explain("c", 60, 0, 1)
    assert kills.explain("c", 90, 0, 2)


def test_every_container_counts_from_the_beginning() -> None:
    kills = OomKills()
    assert kills.explain("c", 10, 0, 7)
    assert kills.explain("d", 60, 0, 1)


def test_one_lane_whose_jobs_are_killed_by_turns_by_the_kernel_and_by_somebody() -> None:
    # What wrapper.sh has written on both kinds of control groups (e2e/test_control_groups.py).
    kills = OomKills()
    counts = [(0, 1), (1, 1), (1, 2), (2, 2)]
    verdicts = [kills.explain("c", 60 * number, *each) for number, each in enumerate(counts)]
    assert verdicts == [True, False, True, False]
