from __future__ import annotations

import pytest

from wsclean_workerd.errors import TokenExpired, TokenInvalid, TokenMissing
from wsclean_workerd.model import User
from wsclean_workerd.tokens import LIFETIME_SECONDS, Tokens, bearer

OBSERVER = User(uid=1000, gid=100, groups=(970, 971))
NOW = 5000.0


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(b"k" * 32)


@pytest.mark.parametrize("user", [OBSERVER, User(uid=0, gid=0), User(uid=7, gid=8, groups=(9,))])
def test_a_token_says_whose_it_is_as_often_as_it_is_sent(tokens: Tokens, user: User) -> None:
    token = tokens.issue(user, NOW)
    assert token.seconds == LIFETIME_SECONDS
    assert [tokens.check(token.text, NOW + later) for later in (0, 1, 59.9)] == [user] * 3


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_token_counts_until_it_is_out_of_date(tokens: Tokens, *, seen_before: bool) -> None:
    text = tokens.issue(OBSERVER, NOW).text
    if seen_before:
        tokens.check(text, NOW)
    for later in (60.0, 61.0):
        with pytest.raises(TokenExpired, match="out of date") as caught:
            tokens.check(text, NOW + later)
        assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")


def test_one_of_an_earlier_start_of_the_daemon_is_out_of_date(tokens: Tokens) -> None:
    earlier = Tokens(b"j" * 32).issue(OBSERVER, NOW).text
    with pytest.raises(TokenExpired, match="another start"):
        tokens.check(earlier, NOW)


@pytest.mark.parametrize("field", [1, 2, 3, 4, 5])
def test_a_token_with_anything_changed_is_forged(tokens: Tokens, field: int) -> None:
    text = tokens.issue(OBSERVER, NOW).text
    tokens.check(text, NOW)
    fields = text.split(".")
    fields[field] = {3: "970-0", 5: fields[5][:-1] + "x"}.get(field, "0")
    with pytest.raises(TokenInvalid, match="not made by this daemon") as caught:
        tokens.check(".".join(fields), NOW)
    assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_groups_cannot_be_moved_into_other_fields(tokens: Tokens) -> None:
    # What is signed is the text and not the numbers in it.
    name, uid, gid, groups, expiry, mac = tokens.issue(OBSERVER, NOW).text.split(".")
    first, second = groups.split("-")
    with pytest.raises(TokenInvalid):
        tokens.check(f"{name}.{uid}.{gid}-{first}.{second}.{expiry}.{mac}", NOW)


def test_of_a_truncated_token_nothing_counts(tokens: Tokens) -> None:
    text = tokens.issue(OBSERVER, NOW).text
    for length in range(len(text)):
        with pytest.raises(TokenInvalid):
            tokens.check(text[:length], NOW)


@pytest.mark.parametrize(
    "text", ["", "x", "x" * 10000, "\u00e4.1.2.3.4.5", "1.2.3.4.5.6", "1.2.3.4.5.6.7"]
)
def test_what_is_no_token_is_said_to_be_none(tokens: Tokens, text: str) -> None:
    with pytest.raises(TokenInvalid, match=r"is no token.*identity\.sock"):
        tokens.check(text, NOW)


def test_what_is_remembered_has_a_limit(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclean_workerd.tokens._REMEMBERED", 3)
    texts = [tokens.issue(User(uid=uid, gid=uid), NOW).text for uid in range(10)]
    for uid, text in enumerate(texts):
        assert tokens.check(text, NOW).uid == uid
        assert len(tokens._known) <= 3
    assert tokens.check(texts[0], NOW).uid == 0


def test_a_call_brings_one_token() -> None:
    assert bearer(["Bearer a.b"]) == bearer(["bearer  a.b "]) == "a.b"
    with pytest.raises(TokenMissing, match="brings no token") as caught:
        bearer([])
    assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "TOKEN_MISSING")
    for values in (["Basic a.b"], ["a.b"], ["Bearer a", "Bearer b"]):
        with pytest.raises(TokenInvalid):
            bearer(values)
