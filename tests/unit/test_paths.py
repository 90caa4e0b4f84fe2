from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclean_workerd.errors import UnmappedPath
from wsclean_workerd.model import Mount
from wsclean_workerd.paths import PathMapper, is_below

MAPPER = PathMapper(
    (
        Mount("/stage", "/stage"),
        Mount("/stage/dsa110-contimg", "/data"),
        Mount("/fast", "/mnt/fast", read_only=True),
    ),
)


@pytest.mark.parametrize(
    ("argument", "mapped"),
    [
        ("/stage/a.ms", "/stage/a.ms"),
        ("/stage", "/stage"),
        ("/stage/", "/stage"),
        ("/stage//x/./y/../a.ms/", "/stage/x/a.ms"),
        # The longest mount wins, on whole components.
        ("/stage/dsa110-contimg/a.ms", "/data/a.ms"),
        ("/stage/dsa110-contimg", "/data"),
        ("/stage/dsa110-contimg2/a.ms", "/stage/dsa110-contimg2/a.ms"),
        ("/fast/x", "/mnt/fast/x"),
        # What is already a path of the container is taken as it is.
        ("/data/a.ms", "/data/a.ms"),
        ("/mnt/fast/x", "/mnt/fast/x"),
        ("container:/opt/beam.fits", "/opt/beam.fits"),
        # What is no absolute path is not touched.
        ("-size", "-size"),
        ("a.ms", "a.ms"),
        ("", ""),
        ("+55d22m54s", "+55d22m54s"),
        ("-10d30m", "-10d30m"),
        # Lists and keys.
        ("/stage/a.ms,/fast/b.ms", "/stage/a.ms,/mnt/fast/b.ms"),
        ("a.ms,/fast/b.ms", "a.ms,/mnt/fast/b.ms"),
        ("msin=/fast/a.ms", "msin=/mnt/fast/a.ms"),
        ("--out=/fast/a", "--out=/mnt/fast/a"),
        # A comma can be part of a name.
        ("/fast/a,b.ms", "/mnt/fast/a,b.ms"),
        ("/stage/2025-10-19T14:31:45.ms", "/stage/2025-10-19T14:31:45.ms"),
        ("/stage/ä ö/a b.ms", "/stage/ä ö/a b.ms"),
    ],
)
def test_an_argument_is_mapped(argument: str, mapped: str) -> None:
    assert MAPPER.map_argument(argument) == mapped


@pytest.mark.parametrize(
    "argument",
    [
        "/etc/passwd",
        "/stage/../etc/passwd",
        "/stagex/a.ms",
        "/",
        "msin=/etc/passwd",
        "/stage/a.ms,/etc/passwd",
        "container:relative",
        "//etc/passwd",
    ],
)
def test_a_path_that_no_job_could_see_is_refused(argument: str) -> None:
    with pytest.raises(UnmappedPath):
        MAPPER.map_argument(argument)


def test_the_refusal_names_the_path_and_lists_the_mounts() -> None:
    with pytest.raises(UnmappedPath) as caught:
        MAPPER.map_argument("/home/me/a.ms")
    message = str(caught.value)
    assert "'/home/me/a.ms'" in message
    assert "/stage, /stage/dsa110-contimg (as /data), /fast (as /mnt/fast)" in message
    assert "container:/home/me/a.ms" in message


def test_without_mounts_the_refusal_says_so() -> None:
    with pytest.raises(UnmappedPath, match="No mounts are configured"):
        PathMapper(()).map_path("/stage/a.ms")


SEGMENT = st.text(
    st.characters(exclude_characters="/\0\n,=", exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
)


@given(st.lists(SEGMENT, max_size=6), st.sampled_from(MAPPER.mounts))
def test_a_mapped_path_is_the_same_file_seen_from_inside(parts: list[str], mount: Mount) -> None:
    path = posixpath.join(mount.host, *parts)
    try:
        inside = MAPPER.map_path(path)
    except UnmappedPath:
        assert ".." in parts
        return
    normal = posixpath.normpath(path)
    # Undo it: some mount leads back to the very same host path.
    back = {
        posixpath.normpath(posixpath.join(each.host, posixpath.relpath(inside, each.container)))
        for each in MAPPER.mounts
        if is_below(inside, each.container)
    }
    assert normal in back or any(is_below(normal, each.container) for each in MAPPER.mounts)
