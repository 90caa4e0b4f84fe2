from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from wsclean_workerd.access import Operators, RunAs
from wsclean_workerd.accounts import find_user
from wsclean_workerd.config import MAX_SOCKET_PATH, Config
from wsclean_workerd.config_file import load
from wsclean_workerd.errors import ConfigError
from wsclean_workerd.model import Mount, User

EXAMPLE = Path(__file__).resolve().parents[2] / "systemd" / "wsclean-workerd.toml"
MOUNTS = '[[mounts]]\nhost = "/stage"\n'

Loader = Callable[[str], Config]
Refusal = Callable[[str], str]

DURATION = 'expected seconds or a text such as "90s", "15m", "1h30m", "2d"'
MODE = 'expected a mode in octal digits as a text, such as "0660"'


@dataclass(frozen=True)
class Account:
    """An account of the pretended host."""

    pw_name: str
    pw_uid: int
    pw_gid: int


@dataclass(frozen=True)
class Group:
    """A group of the pretended host."""

    gr_name: str
    gr_gid: int


ACCOUNTS = [Account("root", 0, 0), Account("observer", 1000, 100)]
GROUPS = [Group("root", 0), Group("users", 100), Group("wsclean", 970), Group("radio", 971)]
MEMBERS = {"root": [0], "observer": [971, 970]}


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with two accounts, on which the tests are root."""
    accounts = SimpleNamespace(
        getpwnam={each.pw_name: each for each in ACCOUNTS}.__getitem__,
        getpwuid={each.pw_uid: each for each in ACCOUNTS}.__getitem__,
    )
    groups = SimpleNamespace(getgrnam={each.gr_name: each for each in GROUPS}.__getitem__)
    monkeypatch.setattr("wsclean_workerd.accounts.pwd", accounts)
    monkeypatch.setattr("wsclean_workerd.accounts.grp", groups)
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, *MEMBERS[name]])
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "workerd.toml"


@pytest.fixture
def read(file: Path) -> Loader:
    """Loads a configuration from its text."""

    def read(text: str) -> Config:
        file.write_text(text, encoding="utf-8")
        return load(file)

    return read


@pytest.fixture
def refuse(read: Loader, file: Path) -> Refusal:
    """What is said of a configuration that cannot be used, without the file's name."""

    def refuse(text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            read(text)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{file}: ") for line in lines), lines
        return "\n".join(line.removeprefix(f"{file}: ") for line in lines)

    return refuse


def with_key(key: str, value: str) -> str:
    """A configuration for root that can be used, but for one key perhaps."""
    section, _, name = key.rpartition(".")
    parts = ("", "docker", "socket", "jobs", "storage", "history", "mounts.0")
    lines: dict[str, list[str]] = {part: [] for part in parts}
    lines[section].append(f"{name} = {value}")
    if key != "jobs.run_as":
        lines["jobs"].append('run_as = "observer"')
    if key != "mounts.0.host":
        lines["mounts.0"].append('host = "/stage"')
    heads = {"": "", "mounts.0": "[[mounts]]"}
    return "\n".join(
        line for part in lines for line in [heads.get(part, f"[{part}]"), *lines[part]]
    )


def look_up(config: Config, key: str) -> object:
    found: Any = config
    for part in key.split("."):
        found = found[int(part)] if part.isdecimal() else getattr(found, part)
    return found


# -- one key at a time -----------------------------------------------------------

VALID: list[tuple[str, str, object]] = [
    ("runtime", '"docker"', "docker"),
    ("runtime", '"native"', "native"),
    ("slots", "1", 1),
    ("slots", "4096", 4096),
    ("state_dir", '"/srv/./a//b/../state/"', "/srv/a/state"),
    ("runtime_dir", '"/run/w w"', "/run/w w"),
    *(("log_level", f'"{level}"', level) for level in ("debug", "info", "warning", "error")),
    *(
        ("docker.url", f'"{url}"', url)
        for url in ("unix:///run/docker.sock", "tcp://10.0.0.1:2375", "http://h", "https://h")
    ),
    ("docker.image", '"registry.example:5000/wsclean@sha256:00"', ...),
    ("docker.container", '"Ws_clean.worker-2"', "Ws_clean.worker-2"),
    ("docker.call_timeout", '"1.5s"', 1.5),
    ("docker.memory", '"64GiB"', 64 * 2**30),
    ("docker.memory", '"none"', None),
    ("socket.group", '"radio"', "radio"),
    ("socket.group", '"4711"', "4711"),
    ("socket.mode", '"0600"', 0o600),
    ("socket.mode", '"666"', 0o666),
    ("socket.operators", '"radio"', "radio"),
    ("jobs.allow_root", "true", True),
    ("jobs.programs", '["/opt/bin/wsclean-3.7", "DP3", "a+b_c"]', ...),
    ("jobs.run_as", '"observer:radio"', "observer:radio"),
    ("jobs.run_as", '"0:0"', "0:0"),
    ("jobs.umask", '"0077"', 0o077),
    ("jobs.run_timeout", '"none"', None),
    ("jobs.run_timeout", "90", 90.0),
    ("jobs.queue_timeout", '"1h30m"', 5400.0),
    ("jobs.kill_grace", "0.25", 0.25),
    ("jobs.output_limit", '"100MiB"', 104857600),
    ("jobs.output_limit", "4096", 4096),
    ("jobs.output_limit", '"none"', None),
    ("storage.probe_timeout", '"1m"', 60.0),
    ("storage.proof_age", "2", 2.0),
    ("history.keep", "0", 0),
    ("history.keep_age", '"7d"', 604800.0),
    ("mounts.0.host", '"/stage/"', "/stage"),
    ("mounts.0.container", '"//data"', "/data"),
    ("mounts.0.read_only", "true", True),
]

INVALID: list[tuple[str, str, str]] = [
    ("runtime", '"podman"', "expected 'docker' or 'native', got 'podman'"),
    ("slots", "0", "expected greater than or equal to 1, got 0"),
    ("slots", "4097", "expected less than or equal to 4096, got 4097"),
    ("slots", '"4"', "expected a valid integer, got '4'"),
    ("slots", "1.0", "expected a valid integer, got 1.0"),
    ("slots", "true", "expected a valid integer, got True"),
    ("state_dir", '"var/lib"', "expected an absolute path, got 'var/lib'"),
    ("state_dir", '""', "expected an absolute path, got ''"),
    ("state_dir", "3", "expected an absolute path, got 3"),
    ("runtime_dir", '"~/run"', "expected an absolute path, got '~/run'"),
    ("runtime_dir", '"/a\\nb"', "expected a path without NUL and newline characters"),
    ("log_level", '"INFO"', "expected 'debug', 'info', 'warning' or 'error', got 'INFO'"),
    ("docker.url", '"/run/docker.sock"', "expected an address such as unix:///var/run/docker.sock"),
    ("docker.url", '"unix://docker.sock"', "expected an address such as unix:///"),
    ("docker.image", "3", "expected a valid string, got 3"),
    ("docker.image", '""', "got ''"),
    ("docker.container", '"-x"', "expected letters, digits, '_', '.' and '-', and a letter or"),
    ("docker.container", '"a b"', "expected letters, digits"),
    ("docker.container", '"a/b"', "expected letters, digits"),
    ("docker.call_timeout", '"none"', DURATION),
    ("docker.memory", '"64GB"', 'a text such as "100MiB"'),
    ("docker.call_timeout", "0", "expected greater than 0, got 0"),
    ("socket.group", '"astro"', "expected a group of this host, got"),
    ("socket.group", "970", "expected a valid string, got 970"),
    ("socket.mode", "432", f"{MODE}, got 432"),
    ("socket.mode", '"0o660"', f"{MODE}, got '0o660'"),
    ("socket.mode", '"0680"', f"{MODE}, got '0680'"),
    ("socket.mode", '"1660"', f"{MODE}, got '1660'"),
    ("socket.operators", '"astro"', "expected a group of this host, got"),
    ("jobs.allow_root", '"yes"', "expected a valid boolean, got 'yes'"),
    ("jobs.programs", '"wsclean"', "expected a list, got 'wsclean'"),
    ("jobs.programs", "[]", "got []"),
    ("jobs.programs", '["wsclean", "a b"]', "expected names of programs, 'a b' is none"),
    ("jobs.programs", '["-rf"]', "expected names of programs, '-rf' is none"),
    ("jobs.programs", '[""]', "expected names of programs, '' is none"),
    ("jobs.run_as", '"nobody"', "expected an account of this host, got 'nobody'"),
    ("jobs.run_as", '""', "expected an account of this host, got ''"),
    ("jobs.run_as", '"observer:astro"', "expected a group of this host, got"),
    ("jobs.run_as", '"4711"', "expected a group too, as in 4711:GID"),
    ("jobs.run_as", "1000", "expected a valid string, got 1000"),
    ("jobs.umask", '"u=rwx"', f"{MODE}, got 'u=rwx'"),
    ("jobs.umask", "22", f"{MODE}, got 22"),
    ("jobs.run_timeout", '"never"', f"{DURATION}, or \"none\", got 'never'"),
    ("jobs.run_timeout", "0", "expected greater than 0, got 0"),
    ("jobs.queue_timeout", "-1", "expected greater than 0, got -1"),
    ("jobs.queue_timeout", "[]", f'{DURATION}, or "none", got []'),
    ("jobs.kill_grace", "true", f"{DURATION}, got True"),
    ("jobs.kill_grace", '"none"', f"{DURATION}, got 'none'"),
    ("jobs.kill_grace", '"99999999999999999d"', "expected less than or equal to"),
    ("jobs.output_limit", '"1GB"', 'a text such as "100MiB"'),
    ("jobs.output_limit", "true", 'a text such as "100MiB"'),
    ("jobs.output_limit", "0", "expected greater than 0"),
    ("storage.probe_timeout", "0", "expected greater than 0"),
    ("storage.proof_age", '"none"', f"{DURATION}, got 'none'"),
    ("history.keep", "-1", "expected greater than or equal to 0"),
    ("history.keep_age", '"none"', f"{DURATION}, got 'none'"),
    ("mounts.0.host", '"stage"', "expected an absolute path, got 'stage'"),
    ("mounts.0.container", '"data"', "expected an absolute path, got 'data'"),
    ("mounts.0.read_only", '"yes"', "expected a valid boolean, got 'yes'"),
]


@pytest.mark.parametrize(("key", "text", "value"), VALID)
def test_a_valid_value_is_taken(read: Loader, key: str, text: str, value: object) -> None:
    if value is ...:
        value = tomllib.loads(f"it = {text}")["it"]
    assert look_up(read(with_key(key, text)), key) == value


@pytest.mark.parametrize(("key", "text", "problem"), INVALID)
def test_an_invalid_value_is_refused_and_named(
    refuse: Refusal,
    key: str,
    text: str,
    problem: str,
) -> None:
    found = refuse(with_key(key, text))
    assert len(found.splitlines()) == 1
    assert found.startswith(f"{key}: ")
    assert problem in found


def keys(schema: type[BaseModel] = Config, prefix: str = "") -> set[str]:
    sections = {"docker", "socket", "jobs", "storage", "history"}
    found = set()
    for name, each in schema.model_fields.items():
        if name == "mounts":
            found |= {"mounts.0.host", "mounts.0.container", "mounts.0.read_only"}
        elif name in sections and isinstance(each.default, BaseModel):
            found |= keys(type(each.default), f"{name}.")
        else:
            found.add(prefix + name)
    return found


@pytest.mark.parametrize("table", [VALID, INVALID], ids=["valid", "invalid"])
def test_no_key_is_forgotten_above(table: list[tuple[str, str, object]]) -> None:
    assert {key for key, _, _ in table} == keys()


# -- durations -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ('"90s"', 90.0),
        ('"15m"', 900.0),
        ('"1h30m"', 5400.0),
        ('"2d"', 172800.0),
        ('"1d1h1m1s"', 90061.0),
        ('"0.5h"', 1800.0),
        ('"none"', None),
    ],
)
def test_a_duration_is_read(read: Loader, text: str, seconds: float | None) -> None:
    assert read(with_key("jobs.run_timeout", text)).jobs.run_timeout == seconds


@pytest.mark.parametrize(
    "text",
    ['"90"', '""', '"5 m"', '"m"', '"-5m"', '"5M"', '"5m "', '"1h30"', '"5w"', '"inf"', "{}"],
)
def test_what_is_no_duration_is_refused(refuse: Refusal, text: str) -> None:
    assert DURATION in refuse(with_key("jobs.run_timeout", text))


@pytest.mark.parametrize("text", ["0", "0.0", "-1", '"0s"', '"0h0m"'])
def test_a_duration_is_more_than_nothing(refuse: Refusal, text: str) -> None:
    assert "expected greater than 0" in refuse(with_key("jobs.kill_grace", text))


@given(
    st.tuples(*[st.integers(0, 999)] * 4).filter(any),
)
def test_units_add_up(parts: tuple[int, ...]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(parts, "dhms", strict=True))
    days, hours, minutes, seconds = parts
    config = Config.model_validate(
        {"runtime": "native", "jobs": {"run_as": "0:0", "kill_grace": text}}
    )
    assert config.jobs.kill_grace == seconds + 60 * (minutes + 60 * (hours + 24 * days))


# -- the file --------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot read the configuration .*/none\.toml: .*No such"
    ):
        load(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path)


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"slots = 1 # \xff")
    with pytest.raises(ConfigError, match=f"cannot read the configuration {re.escape(str(file))}"):
        load(file)


def test_a_file_that_is_no_toml_is_named_with_the_line(refuse: Refusal) -> None:
    assert "line 2" in refuse("slots = 1\nslots\n")


def test_every_problem_has_a_line(refuse: Refusal) -> None:
    problems = refuse('slots = 0\nslotz = 1\n[docker]\nurl = "x"\n[[mounts]]\n').splitlines()
    assert [line.partition(":")[0] for line in problems] == [
        "slots",
        "docker.url",
        "mounts.0.host",
        "slotz",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slot = 1\n", "slot: unknown key, did you mean slots?"),
        ('[doker]\nurl = ""\n', "doker: unknown key, did you mean docker?"),
        ("[docker]\nimages = 1\n", "docker.images: unknown key, did you mean image?"),
        ("[socket]\ngruop = 1\n", "socket.gruop: unknown key, did you mean group?"),
        ("[jobs]\nkill-grace = 1\n", "jobs.kill-grace: unknown key, did you mean kill_grace?"),
        (
            MOUNTS + "[[mounts]]\nhost = '/x'\nreadonly = true\n",
            "mounts.1.readonly: unknown key, did you mean read_only?",
        ),
        # A key of another section is a typo of none of this one.
        ("[socket]\nslots = 1\n", "socket.slots: unknown key, expected one of group, mode"),
        (
            "[docker]\nxyz = 1\n",
            "unknown key, expected one of call_timeout, container, image, memory, url",
        ),
        (
            "xyz = 1\n",
            "xyz: unknown key, expected one of docker, history, jobs, log_level, mounts, runtime",
        ),
    ],
)
def test_a_typo_is_pointed_out(refuse: Refusal, text: str, said: str) -> None:
    assert said in refuse(text)


@pytest.mark.parametrize("text", ["docker = 3", "socket = []", 'jobs = "x"', "mounts = 3"])
def test_a_section_is_a_table(refuse: Refusal, text: str) -> None:
    found = refuse(text)
    assert found.startswith(f"{text.partition(' ')[0]}: expected ")


# -- what depends on more than one key -------------------------------------------


def native(*lines: str) -> str:
    return "\n".join(['runtime = "native"', *lines, "[jobs]", 'run_as = "0:0"', ""])


def test_the_socket_path_may_be_as_long_as_the_kernel_allows(read: Loader) -> None:
    folder = "/" + "r" * (MAX_SOCKET_PATH - len("//identity.sock"))
    config = read(native(f'runtime_dir = "{folder}"'))
    assert len(os.fsencode(config.identity_path)) == MAX_SOCKET_PATH == 107


@pytest.mark.parametrize("folder", ["/" + "r" * 93, "/" + "ü" * 46 + "r"])
def test_a_socket_path_that_is_too_long_is_refused(refuse: Refusal, folder: str) -> None:
    found = refuse(native(f'runtime_dir = "{folder}"'))
    assert found.startswith("runtime_dir: the socket path ")
    assert f"{folder}/identity.sock would have 10" in found
    assert "expected at most 107" in found


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ([], "mounts: expected at least one [[mounts]] table"),
        ([("/", None)], "mounts.0: expected another folder of the container than /"),
        ([("/a", None), ("/b", "/")], "mounts.1: expected another folder of the container than /"),
        ([("/a", None), ("/b", "/a/")], "mounts.1: expected a folder of its own in the container"),
        ([("/a", None), ("/b", "/c/../a")], "/a is that of mount 0 too"),
        ([("/a", "/d"), ("/b", None), ("/c", "/d")], "mounts.2: expected a folder of its own"),
        ([("/", "/host")], "mounts.0.host: expected a folder apart from state_dir"),
        ([("/a", None), ("/var/lib", None)], "mounts.1.host: expected a folder apart"),
        ([("/var/lib/wsclean-workerd", "/x")], "(/var/lib/wsclean-workerd)"),
        ([("/b/../var", None)], "mounts.0.host: expected a folder apart from state_dir"),
    ],
)
def test_mounts_that_do_not_fit_together_are_refused(
    refuse: Refusal,
    mounts: list[tuple[str, str | None]],
    said: str,
) -> None:
    found = refuse(docker(mounts))
    assert said in found
    assert len(found.splitlines()) == 1


def docker(mounts: list[tuple[str, str | None]]) -> str:
    lines = ["[jobs]", 'run_as = "0:0"']
    for host, container in mounts:
        lines += ["[[mounts]]", f'host = "{host}"']
        if container is not None:
            lines.append(f'container = "{container}"')
    return "\n".join(lines)


def test_mounts_are_at_their_own_path_unless_they_say_otherwise(read: Loader) -> None:
    config = read(docker([("/stage", None), ("/stage/old", "/data"), ("/var/library", None)]))
    assert config.job_mounts == (
        Mount("/stage", "/stage"),
        Mount("/stage/old", "/data"),
        Mount("/var/library", "/var/library"),
    )


def test_the_native_runtime_has_only_identities(read: Loader, refuse: Refusal) -> None:
    head = 'runtime = "native"\n'
    config = read(head + docker([("/stage", None), ("/fast", "/fast/")]))
    assert config.job_mounts == (Mount("/stage", "/stage"), Mount("/fast", "/fast"))
    assert read(head + docker([])).job_mounts == ()
    found = refuse(head + docker([("/fast", None), ("/stage", "/data")]))
    assert found.startswith("mounts.1.container: expected /stage or nothing")


# -- whom jobs run as ------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "user"),
    [
        ("observer", User(uid=1000, gid=100, groups=(970, 971))),
        ("1000", User(uid=1000, gid=100, groups=(970, 971))),
        # Its own group is not among the supplementary ones.
        ("observer:radio", User(uid=1000, gid=971, groups=(970,))),
        ("1000:971", User(uid=1000, gid=971, groups=(970,))),
        # A number needs no account, as long as the group is said.
        ("4711:42", User(uid=4711, gid=42, groups=())),
        ("4711:radio", User(uid=4711, gid=971, groups=())),
        ("0:0", User(uid=0, gid=0, groups=())),
    ],
)
def test_an_account_is_found(read: Loader, account: str, user: User) -> None:
    assert find_user(account) == user
    assert read(with_key("jobs.run_as", f'"{account}"')).user == user


def test_jobs_run_as_their_submitters(read: Loader) -> None:
    config = read(f'{MOUNTS}[socket]\ngroup = "wsclean"\n')
    assert config.run_as == RunAs()
    # What is done for no job is done by one who has no more rights than they.
    assert config.user == User(uid=65534, gid=65534, groups=(970,))
    assert read(f"{MOUNTS}[jobs]\nallow_root = true\n").run_as == RunAs(allow_root=True)


def test_or_all_as_one(read: Loader) -> None:
    observer = User(uid=1000, gid=100, groups=(970, 971))
    config = read(with_key("jobs.run_as", '"observer"'))
    assert (config.run_as, config.user) == (RunAs(fixed=observer), observer)


def test_operators_are_a_group(read: Loader) -> None:
    assert read(MOUNTS).operators == Operators(own_uid=0, gid=None)
    assert read(with_key("socket.operators", '"radio"')).operators.gid == 971


def test_without_root_jobs_run_as_the_daemon(
    read: Loader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "getegid", lambda: 42)
    monkeypatch.setattr(os, "getgroups", lambda: [42, 43])
    own = User(uid=4711, gid=42, groups=(42, 43))
    config = read(MOUNTS)
    assert (config.run_as, config.user) == (RunAs(own=own), own)
    assert config.operators.own_uid == 4711


def test_without_root_the_own_account_may_be_named(
    read: Loader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 100)
    assert read(with_key("jobs.run_as", '"observer"')).user.uid == 1000


@pytest.mark.parametrize("account", ["observer", "0:0", "root"])
def test_without_root_nobody_else_may_be_named(
    refuse: Refusal,
    monkeypatch: pytest.MonkeyPatch,
    account: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    found = refuse(with_key("jobs.run_as", f'"{account}"'))
    assert found.startswith("jobs.run_as: expected nothing or the daemon's own account")


# -- defaults, and the example ---------------------------------------------------


def test_defaults(read: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 42)
    config = read(with_key("slots", "1"))
    assert config.runtime == "docker"
    assert config.slots == 1
    assert config.socket_path == Path("/run/wsclean-workerd/workerd.sock")
    assert config.journal_path == Path("/var/lib/wsclean-workerd/journal.db")
    assert config.spool_path == Path("/var/lib/wsclean-workerd/spool")
    assert config.docker.call_timeout == 15
    assert config.socket_gid == 42
    assert config.socket.mode == 0o660
    assert config.jobs.programs == ["wsclean", "wsclean-mp", "chgcentre", "taql"]
    assert config.jobs.umask == 0o022
    assert config.jobs.run_timeout == 86400
    assert config.jobs.queue_timeout is None
    assert config.patience.grace == config.jobs.kill_grace == 10


@pytest.mark.parametrize(("group", "gid"), [("radio", 971), ("4711", 4711)])
def test_the_group_of_the_socket_is_looked_up(read: Loader, group: str, gid: int) -> None:
    assert read(with_key("socket.group", f'"{group}"')).socket_gid == gid


def test_the_example_can_be_used(read: Loader) -> None:
    config = read(EXAMPLE.read_text(encoding="utf-8"))
    assert config.run_as == RunAs()
    assert config.socket_gid == 970
    assert config.job_mounts == (Mount("/stage", "/stage"),)


def test_the_example_says_all_that_can_be_said_and_shows_the_defaults(
    read: Loader,
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    commented = re.compile(r"^#(\w+ = )", re.MULTILINE)
    uncommented = commented.sub(r"\1", text)
    shown = _flat(tomllib.loads(uncommented))
    assert set(shown) == keys()

    minimal = with_key("slots", "1")
    defaults = read(minimal)
    everything = read(uncommented)
    # What the example sets, and what is no default but an illustration.
    own = set(_flat(tomllib.loads(text))) | {
        "jobs.run_as",
        "socket.operators",
        "mounts.0.container",
    }
    assert own == {
        "slots",
        "docker.image",
        "socket.group",
        "socket.operators",
        "jobs.run_as",
        "mounts.0.host",
        "mounts.0.container",
    }
    for key in set(shown) - own:
        assert look_up(everything, key) == look_up(defaults, key), key
    # Nor do these differ from what happens without them.
    for key in ("slots", "docker.image"):
        assert look_up(everything, key) == look_up(defaults, key), key
    assert everything.job_mounts == defaults.job_mounts


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif name == "mounts":
            found |= {f"mounts.0.{key}": each for key, each in value[0].items()}
        else:
            found[prefix + name] = value
    return found


@pytest.mark.parametrize("text", ["inf", "-inf", "nan"])
def test_a_duration_is_a_finite_number(refuse: Refusal, text: str) -> None:
    for key in ("jobs.kill_grace", "jobs.run_timeout", "docker.call_timeout"):
        assert DURATION in refuse(with_key(key, text))


@pytest.mark.parametrize("account", ["0:99999999999", "99999999999:0", "4294967295:0"])
def test_an_account_is_a_number_that_the_kernel_knows(refuse: Refusal, account: str) -> None:
    assert "expected a number of at most 4294967294" in refuse(
        with_key("jobs.run_as", f'"{account}"'),
    )


@pytest.mark.parametrize(
    "inside",
    [
        "/",
        "/usr",
        "/usr/share",
        "/etc",
        "/proc",
        "/tmp",
        "/wsclean-workerd",
        "/wsclean-workerd/spool/x",
    ],
)
def test_a_mount_hides_nothing_that_the_container_needs(refuse: Refusal, inside: str) -> None:
    account = '[jobs]\nrun_as = "observer"\n'
    found = refuse(f'{account}[[mounts]]\nhost = "/stage"\ncontainer = "{inside}"\n')
    assert f"expected another folder of the container than {inside}" in found


@pytest.mark.parametrize("inside", ["/data", "/tmp/work", "/user", "/etcetera", "/srv/etc"])
def test_a_mount_can_be_anywhere_else(read: Loader, inside: str) -> None:
    account = '[jobs]\nrun_as = "observer"\n'
    settings = f'{account}[[mounts]]\nhost = "/stage"\ncontainer = "{inside}"\n'
    assert read(settings).job_mounts[0].container == inside
