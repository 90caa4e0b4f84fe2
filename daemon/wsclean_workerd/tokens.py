"""Short texts by which a call says whose it is. Pure: the time is given.

A token is

    KEY.UID.GID.GROUPS.EXPIRY.MAC

with the numbers in decimal, the groups joined by `-`, the expiry in milliseconds on the
daemon's clock, and an HMAC-SHA256 over all that is before it, in hexadecimal digits. KEY names
the key of that, which every start of the daemon makes anew: so a token of an earlier one is
known as out of date, and not taken for a forged one.

Whoever has a token is who it says, also if he has stolen it: nothing tells him from its owner.
So it is handed to nobody but its owner, never written down, and soon out of date.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.errors import TokenExpired, TokenInvalid, TokenMissing
from wsclean_workerd.model import User

if TYPE_CHECKING:
    from collections.abc import Sequence

LIFETIME_SECONDS = 60.0
"""How long a token counts. A busy client asks for one so often, which is nothing; who has been
taken out of a group, and who has stolen a token, has what it gives for so long and no longer."""

SCHEME = "Bearer"

_KEY_DIGITS = 16
_FIELDS = 6
# More than any token can have: as many groups as are told of a peer, and then some.
_LONGEST = 8192
# Clients of a host at any one time; each has one token or two.
_REMEMBERED = 4096

_MEND = (
    "Connect to identity.sock, beside the daemon's socket: the first word it says is a token, to "
    "be sent with the call as `authorization: Bearer TOKEN`"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and for how long it counts.

    Attributes:
        text: The token.
        seconds: Its lifetime.
    """

    text: str
    seconds: float


class Tokens:
    """Makes tokens, and tells whose they are.

    Args:
        key: Random bytes that nobody else knows, new with each start of the daemon.
        lifetime: How long a token counts, in seconds.
    """

    def __init__(self, key: bytes, lifetime: float = LIFETIME_SECONDS) -> None:
        self._key = key
        self._lifetime = lifetime
        # One way: it tells the key from others, and nothing of it.
        self._name = hashlib.sha256(b"name of " + key).hexdigest()[:_KEY_DIGITS]
        # Those that were found good, until they are out of date: most calls bring one again.
        self._known: dict[str, tuple[User, float]] = {}

    def issue(self, user: User, now: float) -> Token:
        """Make a token.

        Args:
            user: Whom it is for, as the kernel says.
            now: Seconds on a clock that neither steps nor stops.
        """
        expiry = round((now + self._lifetime) * 1000)
        groups = "-".join(map(str, user.groups))
        said = f"{self._name}.{user.uid}.{user.gid}.{groups}.{expiry}"
        return Token(f"{said}.{self._mac(said)}", self._lifetime)

    def check(self, text: str, now: float) -> User:
        """Tell whose a token is.

        Args:
            text: The token.
            now: As for `issue`.

        Raises:
            TokenInvalid: If it is none of this daemon's.
            TokenExpired: If it was one.
        """
        known = self._known.get(text)
        if known is None:
            known = self._read(text)
            # Also those that are out of date are known by this, and only good ones get here.
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = known
        user, expiry = known
        if now >= expiry:
            del self._known[text]
            raise TokenExpired(f"cannot accept the call: its token is out of date. {_MEND}")
        return user

    def _read(self, text: str) -> tuple[User, float]:
        if len(text) > _LONGEST or not text.isascii():
            raise _malformed()
        fields = text.split(".")
        if len(fields) != _FIELDS:
            raise _malformed()
        name, uid, gid, groups, expiry, mac = fields
        if len(name) != _KEY_DIGITS:
            raise _malformed()
        if name != self._name:
            raise TokenExpired(
                f"cannot accept the call: its token is one of another start of the daemon. {_MEND}"
            )
        if not hmac.compare_digest(mac, self._mac(text.rpartition(".")[0])):
            raise TokenInvalid(
                f"cannot accept the call: its token was not made by this daemon. {_MEND}"
            )
        # Whoever made the code wrote these.
        members = tuple(int(each) for each in groups.split("-") if each)
        return User(uid=int(uid), gid=int(gid), groups=members), int(expiry) / 1000

    def _mac(self, said: str) -> str:
        return hmac.digest(self._key, said.encode(), "sha256").hex()


def bearer(values: Sequence[str]) -> str:
    """The token in the `authorization` metadata of a call.

    Args:
        values: What the call says there.

    Raises:
        TokenMissing: If it says nothing.
        TokenInvalid: If that is no token, or are several.
    """
    if not values:
        raise TokenMissing(f"cannot accept the call: it brings no token. {_MEND}")
    scheme, _, text = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != SCHEME.lower():
        raise _malformed()
    return text.strip()


def _malformed() -> TokenInvalid:
    return TokenInvalid(f"cannot accept the call: what it brings is no token. {_MEND}")
