"""X-Accel-Redirect: URIs that a backend names, and everything that leads out of what they are mapped to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import filerig
import pytest
import webob
from filerig import ALLOWED, ask, take

from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import BadCGIResponse
from gfastcgi.files import apply_x_accel_redirect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = Settings(mimetypes=((".txt", "text/plain"),))


class Body:
    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"the backend's own"])

    def close(self) -> None:
        self.is_closed = True


class Lab:
    def __init__(self, folder: Path) -> None:
        self.www = filerig.build(folder)
        self.host = HostConfig(x_accel_redirect=(("/protected/", str(self.www)), ("/dir", str(self.www / "dir"))))
        self.body = Body()

    def send(
        self, uri: str, *fields: tuple[str, str], status: str = "200 OK", method: str = "GET", **asked: Any
    ) -> Any:
        headerlist = [("x-accel-redirect", uri), ("Content-Length", "17"), *fields]
        response = webob.Response(status=status, headerlist=headerlist, app_iter=self.body)
        return apply_x_accel_redirect(ask("/app", method, **asked), response, self.host, SETTINGS)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "/protected/allowed.txt", "/protected/dir/../allowed.txt", "/protected//allowed.txt",
        "/protected/./allowed.txt",
        "/protected/%61llowed.txt", "/protected/allowed.txt?a=b", "/dir/inner.txt", "/x/../protected/allowed.txt",
    ],
)  # fmt: skip
def test_a_uri_becomes_its_file(lab: Lab, uri: str) -> None:
    answer = lab.send(uri)
    assert (answer.status_int, take(answer), answer.content_type) == (200, ALLOWED, "text/plain")
    assert lab.body.is_closed
    assert "x-accel-redirect" not in answer.headers


def test_names_with_blanks_and_other_letters(lab: Lab) -> None:
    (lab.www / "a b é.txt").write_bytes(b"x")
    for uri in ("/protected/a b é.txt".encode().decode("latin-1"), "/protected/a%20b%20%C3%A9.txt"):
        assert take(lab.send(uri)) == b"x"


def test_what_the_backend_said_of_it_holds(lab: Lab) -> None:
    fields = [
        ("Content-Type", "application/pdf"), ("Content-Disposition", "attachment"), ("Set-Cookie", "a=1"),
        ("Cache-Control", "private"), ("ETag", '"mine"'),
    ]  # fmt: skip
    answer = lab.send("/protected/allowed.txt", *fields)
    assert dict(fields).items() <= dict(answer.headerlist).items()
    assert (answer.headers["Content-Length"], take(answer)) == (str(len(ALLOWED)), ALLOWED)
    answer = lab.send("/protected/allowed.txt", *fields, if_none_match='"mine"')
    assert (answer.status_int, answer.headers["Set-Cookie"]) == (304, "a=1")


def test_ranges_and_head(lab: Lab) -> None:
    answer = lab.send("/protected/allowed.txt", range="bytes=0-6")
    assert (answer.status_int, take(answer)) == (206, ALLOWED[:7])
    assert lab.send("/protected/allowed.txt", range="bytes=999-").status_int == 416
    answer = lab.send("/protected/allowed.txt", method="HEAD")
    assert (answer.headers["Content-Length"], take(answer)) == (str(len(ALLOWED)), b"")
    answer = lab.send("/protected/allowed.txt", status="404 Not Found", range="bytes=0-6")
    assert (answer.status_int, take(answer)) == (404, ALLOWED)


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("/allowed.txt", 404), ("/protectedallowed.txt", 404), ("/protected", 404), ("/protected/nothing.txt", 404),
        ("/protected/../allowed.txt", 404), ("/protected/%2e%2e/allowed.txt", 404), ("/dirinner.txt", 404),
        ("/protected/", 403), ("/protected/dir", 403), ("/protected/fifo", 403), ("/protected/sock", 403),
        ("/protected/absolute-out.txt", 403), ("/protected/dir/out.txt", 403), ("/protected/linkdir/secret.txt", 403),
        ("/protected/linkshared/shared.txt", 403), ("/protected/null", 403), ("/protected/self", 403),
        ("/protected/sibling/secret.txt", 403), ("/dir/../../private/secret.txt", 404),
    ],
)  # fmt: skip
def test_nothing_outside(lab: Lab, uri: str, status: int) -> None:
    before = filerig.open_fds()
    answer = lab.send(uri)
    assert (answer.status_int, b"SECRET" in take(answer)) == (status, False)
    assert lab.body.is_closed
    assert filerig.open_fds() == before


@pytest.mark.parametrize(
    "uri",
    [
        "", "protected/allowed.txt", "@named", "http://localhost/protected/allowed.txt", "*", "/protected/a%2fb",
        "/protected/%00", "/protected/a\\b", "/protected/%zz", "/protected/a#b",
    ],
)  # fmt: skip
def test_what_is_no_uri_of_a_file(lab: Lab, uri: str) -> None:
    with pytest.raises(BadCGIResponse, match="X-Accel-Redirect"):
        lab.send(uri)
    assert lab.body.is_closed


def test_twice(lab: Lab) -> None:
    with pytest.raises(BadCGIResponse, match="more than once"):
        lab.send("/protected/allowed.txt", ("X-Accel-Redirect", "/protected/allowed.txt"))


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
def test_a_status_without_content(lab: Lab, status: str) -> None:
    lab.send("/protected/allowed.txt", status=status)
    assert not lab.body.is_closed


def test_no_command_without_the_option(lab: Lab) -> None:
    lab.host = HostConfig()
    assert take(lab.send("/protected/allowed.txt")) == b"the backend's own"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/media/a.txt", "/media/a.txt, which is refused (404): it is under none of the prefixes"),
        ("/protected/nope?x", "/protected/nope?x, which is refused (404): No such file or directory"),
        ("/protected/dir", "/protected/dir, which is refused (403): no regular file"),
        ("/protected/dir/out.txt", "/protected/dir/out.txt, which is refused (403): leads out of the root"),
        ("/protected/\xc3\xa9\xff", "/protected/é\\xff, which is refused (404): No such file or directory"),
    ],
)  # fmt: skip
def test_a_refusal_is_told(lab: Lab, caplog: pytest.LogCaptureFixture, uri: str, told: str) -> None:
    lab.send(uri)
    line = f'X-Accel-Redirect names {told}; see "x-accel-redirect"'
    assert [message.partition(": ")[2] for message in caplog.messages] == [line]
