"""Fields that name an identity: every spelling is taken away, counted and told; what is allowed passes."""

from __future__ import annotations

import string
from typing import Any

import pytest
from filerig import ask
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.auth.hygiene import IDENTITY, Hygiene
from gfastcgi.config import HostConfig
from gfastcgi.routing import Route
from gfastcgi.variables import responder_variables


class Rig:
    def __init__(self, *names: bytes, allowed: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.hygiene = Hygiene(names, allowed, clock=lambda: self.now, tell=self.tell)

    def tell(self, template: str, *told: object) -> None:
        self.lines.append(template % told)

    def kept(self, *names: str) -> tuple[list[bytes], dict[bytes, bytes]]:
        request = ask("/")
        request.fields = [(name.lower().encode("latin-1"), b"%d" % number) for number, name in enumerate(names)]
        request.head.names = frozenset(name for name, _ in request.fields)
        self.hygiene.apply(request)
        return [name for name, _ in request.fields], request.variables


@pytest.mark.parametrize(
    "name",
    [
        "Remote-User", "remote_user", "REMOTE_user", "Remote.User", "remote user", "remote!user", "Remote\xe9User",
        "Auth-Type", "auth_type", "Remote-Ident", "Remote-Groups", "Remote-Name", "Remote-Email", "X-Auth-Request-User",
        "x_auth_request-user", "Team-Id",
    ],
)  # fmt: skip
def test_every_spelling_is_dropped(name: str) -> None:
    rig = Rig(b"X-Auth-Request-User", b"TEAM_ID")
    assert rig.kept("Host", name, "Accept", name) == ([b"host", b"accept"], {})
    assert rig.hygiene.dropped == 2
    assert len(rig.lines) == 1
    assert "names an identity: it was dropped (1 so far)" in rig.lines[0]


@pytest.mark.parametrize(
    "name", ["Remote-Users", "X-Remote-User", "RemoteUser", "Remote--User", "User", "Authorization", "Cookie"]
)
def test_other_names_pass(name: str) -> None:
    rig = Rig()
    assert rig.kept("Host", name) == ([b"host", name.lower().encode()], {})
    assert (rig.hygiene.dropped, rig.lines) == (0, [])


def test_one_name_is_told_once_a_minute_however_it_is_spelt() -> None:
    rig = Rig()
    rig.kept(*("remote" + chr(33 + number % 10) + "user" for number in range(300)))
    assert (rig.hygiene.dropped, len(rig.lines)) == (300, 1)


@pytest.mark.parametrize("name", ["X_Y", "x.y", "-", "", "X-Y_"])
def test_a_name_that_would_pass_for_another_is_told_once_a_minute(name: str) -> None:
    """It stays with the request, but is no variable: somebody has to be able to find out why."""
    rig = Rig()
    for rig.now in (0, 1, 59, 60):
        assert rig.kept("Host", name, "X_Other") == ([b"host", name.lower().encode(), b"x_other"], {})
    assert rig.hygiene.dropped == 0
    assert len(rig.lines) == 2
    assert f"the field {name.lower()!r}, which no program is told of, as X_Y would pass for X-Y" in rig.lines[0]


@given(st.sampled_from(sorted(IDENTITY)), st.data())
def test_what_cgi_would_fold_into_an_identity_is_dropped(variable: bytes, data: Any) -> None:
    """Whatever letter case and whatever bytes that CGI folds into "_"."""
    foldable = st.sampled_from(
        [char for char in map(chr, range(33, 256)) if char not in string.ascii_letters + "0123456789:"]
    )
    name = "".join(
        data.draw(foldable) if char == "_" else data.draw(st.sampled_from([char, char.lower()]))
        for char in variable.decode()
    )
    assert Rig().kept(name) == ([], {})


def test_what_is_allowed_passes_in_that_spelling_only() -> None:
    rig = Rig(allowed=("Remote-User", "X_Under"))
    fields, variables = rig.kept("Remote-User", "Remote_User", "X_Under", "X_Under", "X_Other")
    assert fields == [b"x_other"]
    assert variables == {b"HTTP_REMOTE_USER": b"0", b"HTTP_X_UNDER": b"2, 3"}
    assert rig.hygiene.dropped == 1


def test_an_authorizers_word_wins_over_what_is_allowed() -> None:
    rig = Rig(allowed=("Remote-User",))
    request = ask("/", remote_user="eve")
    rig.hygiene.apply(request)
    route, host = Route("/", "", "/www", "/www/"), HostConfig()
    assert (b"HTTP_REMOTE_USER", b"eve") in responder_variables(request, route, host, 0)
    request.variables[b"REMOTE_USER"] = b"ann"
    pairs = dict(responder_variables(request, route, host, 0))
    assert (pairs[b"REMOTE_USER"], b"HTTP_REMOTE_USER" in pairs) == (b"ann", False)


def test_sites_learn_together() -> None:
    """A client chooses by its fields which conditionals hold, and so which site it meets."""
    learned: set[bytes] = set()
    one, other = (Hygiene((), (), clock=lambda: 0.0, tell=lambda *_: None, learned=learned) for _ in range(2))
    for count in (1, 0):
        request = ask("/", team="red")
        other.apply(request)
        assert len([name for name, _ in request.fields if name == b"team"]) == count
        one.learn({b"HTTP_TEAM"})


def test_what_authorizers_said_once_is_learned() -> None:
    rig = Rig()
    assert rig.kept("Team") == ([b"team"], {})
    rig.hygiene.learn({b"TEAM", b"HTTP_SQUAD"})
    assert rig.kept("Team", "squad", "X-Squad") == ([b"x-squad"], {})
    for number in range(1000):
        rig.hygiene.learn({b"V%d" % number})
    assert rig.kept("V0", "V999") == ([b"v999"], {}), "bounded"


def test_a_flood_is_told_once_a_minute() -> None:
    rig = Rig()
    for _ in range(100):
        rig.kept("Remote-User")
    rig.now = 61
    rig.kept("Remote-User")
    assert [line.rpartition("(")[2] for line in rig.lines] == ["1 so far)", "101 so far)"]
    for number in range(3000):
        rig.kept(f"x-{number}")
    assert rig.hygiene.dropped == 101
