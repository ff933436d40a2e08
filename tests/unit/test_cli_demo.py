"""The demo's parts that need no process: sessions, its configuration, its page."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import webob

from gfastcgi import lighttpd
from gfastcgi.cli.demo import RESPONDERS, write_site
from gfastcgi.cli.demo_apps import COOKIE, PASSWORD, USER, Authorizer, Responder, sign, user_of

KEY = b"k" * 32
FOREVER = 1 << 40


def test_a_session_names_its_user_until_its_end() -> None:
    cookie = sign(KEY, "ada", 1000)
    assert user_of(KEY, cookie, 999.9) == "ada"
    assert user_of(KEY, cookie, 1000) is None


@pytest.mark.parametrize(
    "cookie",
    [
        "", "ada", "ada.9999999999", "ada.9999999999.", "ada.x.y", "a.b.c.d", "ada.9999999999.\u00e9",
        sign(b"other", "ada", FOREVER), sign(KEY, "ada", FOREVER) + "0",
        sign(KEY, "eve", FOREVER).replace("eve", "ada"),
    ],
)  # fmt: skip
def test_a_forged_session_is_none(cookie: str) -> None:
    assert user_of(KEY, cookie, 0) is None


def test_the_authorizer_allows_a_session_alone() -> None:
    authorizer = Authorizer(KEY)
    assert authorizer(webob.Request.blank("/private/x")).status_int == 403
    allowed = authorizer(webob.Request.blank("/private/x", cookies={COOKIE: sign(KEY, "ada", FOREVER)}))
    assert (allowed.status_int, allowed.headers["Variable-REMOTE_USER"]) == (200, "ada")


@pytest.fixture
def responder(tmp_path: Path) -> Responder:
    return Responder("north", 1, tmp_path, KEY)


def post(responder: Responder, path: str, form: dict[str, str] | None = None, **headers: str) -> webob.Response:
    return webob.Request.blank(path, POST=form or {}, headers=headers).get_response(responder)


def test_login_gives_a_session_to_the_right_password_only(responder: Responder) -> None:
    wrong = post(responder, "/app/login", {"user": USER, "password": "x"}, **{"X-Demo": "1"})
    assert (wrong.status_int, "Set-Cookie" in wrong.headers) == (401, False)
    right = post(responder, "/app/login", {"user": USER, "password": PASSWORD}, **{"X-Demo": "1"})
    assert right.status_int == 200
    match = re.match(rf"{COOKIE}=(\S+); ", right.headers["Set-Cookie"])
    assert match
    assert user_of(KEY, match[1], 0) == USER


def test_a_form_of_another_site_can_do_nothing(responder: Responder) -> None:
    assert post(responder, "/app/kill").status_int == 405
    assert webob.Request.blank("/app/kill", headers={"X-Demo": "1"}).get_response(responder).status_int == 405


def test_kill_ends_only_authorizers_that_run(responder: Responder, tmp_path: Path) -> None:
    (tmp_path / "authorizer-1.pid").write_text("1")  # runs, and is no authorizer
    (tmp_path / "authorizer-2.pid").write_text("999999999")
    (tmp_path / "authorizer-3.pid").write_text("")
    assert post(responder, "/app/kill", **{"X-Demo": "1"}).json == {"killed": []}


def test_the_private_file_is_only_named(responder: Responder) -> None:
    answer = webob.Request.blank(
        "/private/a b.svg", environ={"DOCUMENT_ROOT": "/vault", "REMOTE_USER": "ada"}
    ).get_response(responder)  # fmt: skip
    assert answer.headers["X-Sendfile"] == "/vault/private/a%20b.svg"
    assert answer.headers["X-Served-For"] == "ada"
    assert answer.body == b""


def test_what_does_not_exist_is_404(responder: Responder) -> None:
    assert webob.Request.blank("/app/none").get_response(responder).status_int == 404


@pytest.mark.parametrize("php", ["", "/usr/bin/php-cgi"])
def test_the_configuration_is_understood_without_a_warning(tmp_path: Path, php: str) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    config, warnings = lighttpd.load(str(write_site(folder, port=8080, php=php)))
    assert warnings == []
    extensions = {extension.key: extension for extension in config.settings.extensions}
    assert list(extensions) == ["/app/", "/private/", *([".php"] if php else [])]
    assert [host.name for host in extensions["/app/"].hosts] == list(RESPONDERS)
    assert [host.mode for host in extensions["/private/"].hosts] == ["authorizer", "responder"]
    assert shlex.split(extensions["/app/"].hosts[0].bin_path)[0] == sys.executable
    assert len(config.blocks) == 3


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = (Path(__file__).parents[2] / "gfastcgi" / "cli" / "demo_page.html").read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(\w+://[^"')\s]+)""", page)
    assert links == []
    assert "@import" not in page
