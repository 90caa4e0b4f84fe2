from __future__ import annotations

import pytest

from wsclean_workerd.errors import InvalidRequest
from wsclean_workerd.lock_keys import LONGEST_PATH, MOST_LOCKS, lock_keys
from wsclean_workerd.model import Mount
from wsclean_workerd.paths import PathMapper

MAPPER = PathMapper(
    (
        Mount("/stage", "/stage"),
        Mount("/stage/dsa110-contimg", "/data"),
        Mount("/fast", "/stage/fast"),
    ),
)


@pytest.mark.parametrize(
    ("lock", "key"),
    [
        ("gpu-calibration", "gpu-calibration"),
        ("2025-10-19T14:31:45_sb00.ms", "2025-10-19T14:31:45_sb00.ms"),
        ("x" * 128, "x" * 128),
        ("/stage/a.ms", "/stage/a.ms"),
        ("/stage//x/./y/../a.ms/", "/stage/x/a.ms"),
        ("//stage/a.ms", "/stage/a.ms"),
        # However it is named, a file has the name that it has on the host.
        ("/stage/dsa110-contimg/a.ms", "/stage/dsa110-contimg/a.ms"),
        ("/data/a.ms", "/stage/dsa110-contimg/a.ms"),
        ("/data", "/stage/dsa110-contimg"),
        ("container:/data/x/../a.ms", "/stage/dsa110-contimg/a.ms"),
        # A mount hides what is below it: no job sees what the host has there.
        ("/stage/fast/a.ms", "/fast/a.ms"),
        ("/fast/a.ms", "/fast/a.ms"),
        # What no job can reach is a name as good as any.
        ("/home/me/a.ms", "/home/me/a.ms"),
        ("/stagex/../datax/", "/datax"),
        ("/", "/"),
        ("container:/opt//beam", "container:/opt/beam"),
        ("/stage/ä ö/a,b=c.ms", "/stage/ä ö/a,b=c.ms"),
    ],
)
def test_a_lock_has_one_name(lock: str, key: str) -> None:
    assert lock_keys([lock], MAPPER) == (key,)
    # A name stays what it is.
    assert lock_keys([key], MAPPER) == (key,)


@pytest.mark.parametrize(
    ("lock", "key"),
    [
        # A folder of the host is meant if there is one, and not that of the container.
        ("/data/a.ms", "/data/a.ms"),
        ("container:/data/a.ms", "/fast/a.ms"),
        ("/mnt/a.ms", "/data/a.ms"),
        # Jobs see another folder where the host has this one.
        ("/data/archive/a.ms", "/tape/a.ms"),
        ("/mnt/archive/a.ms", "/tape/a.ms"),
    ],
)
def test_mounts_that_hide_each_other_confuse_nobody(lock: str, key: str) -> None:
    mounts = (Mount("/data", "/mnt"), Mount("/fast", "/data"), Mount("/tape", "/mnt/archive"))
    assert lock_keys([lock], PathMapper(mounts)) == (key,)
    assert lock_keys([key], PathMapper(mounts)) == (key,)


def test_what_is_named_twice_is_locked_once() -> None:
    locks = ["gpu", "/stage/dsa110-contimg/a.ms", "/data/a.ms/", "gpu", "/fast/b.ms"]
    assert lock_keys(locks, MAPPER) == ("/fast/b.ms", "/stage/dsa110-contimg/a.ms", "gpu")
    assert lock_keys([], MAPPER) == ()


@pytest.mark.parametrize(
    "lock",
    ["", " ", "a.ms/b", "./a.ms", "../a.ms", "a b", "ä", "-x", ".hidden", "a\n", "x" * 129, "a/"],
)
def test_what_is_neither_path_nor_name_is_refused(lock: str) -> None:
    with pytest.raises(InvalidRequest, match="expected an absolute path, or a plain name") as error:
        lock_keys(["gpu", lock], MAPPER)
    assert repr(lock[:80]) in str(error.value)
    assert error.value.reason == "INVALID_LOCK"


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("/stage/a\0b", r"'/stage/a\\x00b'.*no NUL"),
        ("/stage/a\nb", r"'/stage/a\\nb'.*no newline"),
        ("/" + "x" * LONGEST_PATH, "'/xxxx.*at most 4096 bytes, not 4097"),
        ("/" + "ä" * (LONGEST_PATH // 2), "at most 4096 bytes, not 4097"),
        ("container:a.ms", "'container:a.ms'.*absolute path"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused(lock: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        lock_keys([lock], MAPPER)


def test_a_job_has_so_many_locks_and_no_more() -> None:
    locks = [f"lock-{number:02}" for number in range(MOST_LOCKS + 1)]
    assert list(lock_keys(locks[1:], MAPPER)) == locks[1:]
    with pytest.raises(InvalidRequest, match=f"65 locks.*'lock-00'.*at most {MOST_LOCKS}"):
        lock_keys(locks, MAPPER)
