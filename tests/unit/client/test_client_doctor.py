from __future__ import annotations

import subprocess

import pytest

from wsclean_client.cli.doctor import judge_versions, lines
from wsclean_client.cli.host_checks import (
    Installation,
    SocketFacts,
    judge_config,
    judge_service,
    judge_socket,
)
from wsclean_client.diagnosis import Finding, Verdict

OK, WARNING, PROBLEM, UNKNOWN = Verdict
UNIT = "wsclean-workerd.service"
ACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "NeedDaemonReload": "no",
}


@pytest.mark.parametrize(
    ("socket", "unit", "config"),
    [
        ("/run/wsclean-workerd/workerd.sock", UNIT, "/etc/wsclean-workerd.toml"),
        (
            "/run/wsclean-workerd-dp3/workerd.sock",
            "wsclean-workerd@dp3.service",
            "/etc/wsclean-workerd-dp3.toml",
        ),
        ("/run/wsclean-workerd-/workerd.sock", None, None),
        ("/tmp/a/run/wsclean-workerd/workerd.sock", None, None),
    ],
)
def test_the_socket_tells_whose_it_is(socket: str, unit: str | None, config: str | None) -> None:
    assert Installation.of(socket, None, None) == Installation(socket, unit, config)
    assert Installation.of(socket, "u", "c") == Installation(socket, "u", "c")


@pytest.mark.parametrize(
    ("changes", "verdict", "words", "mend"),
    [
        ({}, OK, "active and enabled", ""),
        ({"LoadState": "not-found"}, PROBLEM, "not-found", "wsclean-ctl install"),
        ({"LoadState": "masked"}, PROBLEM, "masked", f"systemctl unmask {UNIT}"),
        ({"LoadState": "bad-setting"}, PROBLEM, "bad-setting", f"systemctl status {UNIT}"),
        ({"ActiveState": "inactive"}, PROBLEM, "not started", f"systemctl enable --now {UNIT}"),
        (
            {"ActiveState": "failed", "Result": "exit-code"},
            PROBLEM,
            "exit-code",
            f"journalctl -u {UNIT}",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"},
            PROBLEM,
            "activating, auto-restart",
            f"journalctl -u {UNIT}",
        ),
        ({"ActiveState": "activating"}, WARNING, "is activating", "ask again"),
        ({"UnitFileState": "disabled"}, WARNING, "disabled", f"systemctl enable {UNIT}"),
        ({"NeedDaemonReload": "yes"}, WARNING, "changed", "systemctl daemon-reload"),
    ],
)
def test_how_the_service_is(
    changes: dict[str, str], verdict: Verdict, words: str, mend: str
) -> None:
    found = judge_service(UNIT, {**ACTIVE, **changes})
    assert (found.name, found.verdict) == ("service", verdict)
    assert words in found.found
    assert mend in found.mend
    assert bool(found.mend) is bool(mend)


@pytest.mark.parametrize(
    ("facts", "verdict", "words", "mend"),
    [
        ({}, OK, "mode 0660, group wsclean", ""),
        ({"mode": 0o666}, WARNING, "everybody", "socket.mode"),
        ({"error": "No such file"}, PROBLEM, "No such file", "start the daemon"),
        ({"is_socket": False}, PROBLEM, "no socket", "rm /s"),
        ({"may_connect": False}, PROBLEM, "may not connect", "usermod -aG wsclean"),
        ({"may_connect": False, "is_member": True}, PROBLEM, "may not connect", "log in again"),
        ({"may_connect": False, "mode": 0o600}, PROBLEM, "only its owner", "socket.mode"),
    ],
)
def test_how_the_socket_is(
    facts: dict[str, object], verdict: Verdict, words: str, mend: str
) -> None:
    found = judge_socket(SocketFacts(**{"path": "/s", "group": "wsclean", **facts}))  # type: ignore[arg-type]
    assert (found.name, found.verdict) == ("socket", verdict)
    assert words in found.found
    assert mend in found.mend
    assert bool(found.mend) is bool(mend)


def test_what_the_daemon_says_of_its_configuration() -> None:
    def judge(status: int, said: str = "") -> Finding:
        return judge_config("/c", subprocess.CompletedProcess([], status, "", said))

    assert judge(0) == Finding("configuration", OK, "/c is valid")
    broken = judge(1, "wsclean-workerd: error: /c: a\nwsclean-workerd: error: /c: b\n")
    assert (broken.verdict, broken.found) == (PROBLEM, "/c: a; /c: b")
    assert broken.mend == "edit /c, then restart the daemon"
    assert judge(-9).found == "/c: exit status -9"
    late = judge_config("/c", "no answer within 9 s")
    assert late.verdict is UNKNOWN
    assert "no answer within 9 s" in late.found


def test_versions_have_to_be_the_same() -> None:
    assert judge_versions("1.2", "1.2").verdict is OK
    assert judge_versions("1.2", "1.1").found == "the client is 1.2, the daemon is 1.1"
    old = judge_versions("1.2", "")
    assert old.verdict is WARNING
    assert "older" in old.found


def test_a_finding_is_a_line_and_its_mend_another() -> None:
    assert [text for text, _ in lines(Finding("image", OK, "a:1 is there"))] == [
        "ok       image: a:1 is there"
    ]
    found = Finding("mount", PROBLEM, "hangs\x1b[2J", "findmnt /stage", subject="/stage")
    assert [text for text, _ in lines(found)] == [
        "problem  mount /stage: hangs\\x1b[2J",
        "           mend: findmnt /stage",
    ]
    assert len({lines(Finding("a", each, "b"))[0][1] for each in Verdict}) == 4
