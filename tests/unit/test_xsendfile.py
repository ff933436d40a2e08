"""X-Sendfile, its old names, and everything that a backend may get wrong about it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filerig
import pytest
import webob
from filerig import ALLOWED, ask, take

from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import BadCGIResponse
from gfastcgi.files import apply_x_sendfile
from gfastcgi.log import BURST, setup
from gfastcgi.net import beneath

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "xsendfile.json").read_text())
SETTINGS = Settings(mimetypes=((".txt", "text/plain"),))
MTIME = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
SIZE = len(ALLOWED)
FAMILY = {"x-sendfile", "x-lighttpd-send-file", "x-sendfile2"}


class Body:
    """A backend's own body that knows whether it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        self.is_closed = True


class Lab:
    """The rig, and a backend that answers with the fields it is told."""

    def __init__(self, folder: Path) -> None:
        self.www = filerig.build(folder)
        self.folder = folder
        os.utime(self.www / "allowed.txt", (MTIME, MTIME))
        self.host = HostConfig(x_sendfile=True, x_sendfile_docroot=(str(self.www),))
        self.body = Body(b"the backend's own")

    def send(
        self, *fields: tuple[str, str], host: HostConfig | None = None, status: str = "200 OK", method: str = "GET",
        **asked: Any,
    ) -> webob.Response:  # fmt: skip
        headerlist = [(name, value.replace("{lab}", str(self.folder))) for name, value in fields]
        response = webob.Response(status=status, headerlist=headerlist, app_iter=self.body)
        answer = apply_x_sendfile(ask("/app.php", method, **asked), response, host or self.host, SETTINGS)
        assert not FAMILY & {name.lower() for name in answer.headers}
        assert (answer.app_iter is self.body) is not self.body.is_closed
        return answer


@pytest.fixture(params=["openat2", "walk"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(beneath, "_open_at", getattr(beneath, f"_open_by_{request.param}"))
    if request.param == "openat2" and beneath._best_way() is beneath._open_by_walk:
        pytest.skip("the kernel has no openat2")
    lab = Lab(tmp_path)
    before = filerig.open_fds()
    yield lab
    assert filerig.open_fds() == before


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_catalogue(lab: Lab, case: dict[str, Any]) -> None:
    expected = case["expected"]
    name = (
        "X-LIGHTTPD-send-file"
        if "legacy" in case["name"]
        else "X-Sendfile2"
        if "sendfile2" in case["name"]
        else "X-Sendfile"
    )
    first, *more = case["value"].split("\r\n")
    fields = [(name, first), *(tuple(line.split(": ", 1)) for line in more)]
    if case["name"] == "xs-with-cl":
        fields.append(("Content-Length", "3"))
    try:
        response = lab.send(("Content-Type", "text/html"), *fields)
        status, content = response.status_int, take(response)
    except BadCGIResponse as error:
        status, content = error.status_hint, b""
        assert lab.body.is_closed
    assert status in expected["status"]
    for text in expected.get("body_must", ()):
        assert text.encode() in content
    for text in expected["body_must_not"]:
        assert text.encode() not in content


def test_there_are_22_cases() -> None:
    assert len(CASES) == 22


@pytest.mark.parametrize("name", ["X-Sendfile", "x-sendfile", "X-LIGHTTPD-send-file", "X-SENDFILE2"])
def test_switched_off_the_field_is_just_dropped(lab: Lab, name: str) -> None:
    response = lab.send((name, "{lab}/www/allowed.txt"), ("Vary", "x"), host=HostConfig())
    assert response.headerlist == [("Vary", "x")]
    assert b"".join(response.app_iter) == b"the backend's own"


def test_without_the_field_nothing_changes(lab: Lab) -> None:
    response = lab.send(("Content-Type", "text/html"), ("Content-Length", "17"))
    assert response.headerlist == [("Content-Type", "text/html"), ("Content-Length", "17")]
    assert response.app_iter is lab.body


def test_what_the_backend_said_is_kept(lab: Lab) -> None:
    said = [("Content-Type", "image/x"), ("ETag", '"app"'), ("Last-Modified", "Mon, 07 Nov 1994 08:49:37 GMT"),
            ("Cache-Control", "private"), ("Vary", "Cookie"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")]  # fmt: skip
    response = lab.send(*said, ("Content-Length", "3"), ("X-Sendfile", "{lab}/www/allowed.txt"))
    assert response.status == "200 OK"
    assert response.headerlist == [*said, ("Accept-Ranges", "bytes"), ("Content-Length", str(SIZE))]
    assert take(response) == ALLOWED


def test_what_it_did_not_say_comes_from_the_file(lab: Lab) -> None:
    response = lab.send(("X-Sendfile", "{lab}/www/allowed.txt"), ("Accept-Ranges", "none"))
    inode = (lab.www / "allowed.txt").stat().st_ino
    assert response.headerlist == [
        ("Content-Type", "text/plain"), ("ETag", f'"{inode:x}-{SIZE:x}-{MTIME * 10**9:x}"'), ("Last-Modified", DATE),
        ("Accept-Ranges", "bytes"), ("Content-Length", str(SIZE)),
    ]  # fmt: skip
    take(response)


def test_head(lab: Lab) -> None:
    response = lab.send(("X-Sendfile", "{lab}/www/allowed.txt"), method="HEAD", range="bytes=0-1")
    assert (response.status_int, response.headers["Content-Length"]) == (200, str(SIZE))
    assert take(response) == b""
    lab.body = Body()
    response = lab.send(("X-Sendfile2", "{lab}/www/allowed.txt 2-4"), method="HEAD")
    assert (response.status_int, response.headers["Content-Length"]) == (200, "3")
    assert take(response) == b""


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ({"range": "bytes=0-6"}, 206, b"ALLOWED"),
        ({"range": "bytes=-3"}, 206, b"ENT"),
        ({"range": "bytes=20-"}, 416, None),
        ({"range": "bytes=0-6", "if_range": '"app"'}, 206, b"ALLOWED"),
        ({"range": "bytes=0-6", "if_range": DATE}, 206, b"ALLOWED"),
        ({"range": "bytes=0-6", "if_range": '"x"'}, 200, ALLOWED),
        ({"if_none_match": '"app"'}, 304, b""),
        ({"if_none_match": '"x"', "if_modified_since": DATE}, 200, ALLOWED),
        ({"if_modified_since": DATE}, 304, b""),
        ({"if_match": '"x"'}, 412, None),
        ({"range": "bytes=0-6", "method": "POST", "if_none_match": '"app"'}, 200, ALLOWED),
    ],
)
def test_ranges_and_preconditions(lab: Lab, asked: dict[str, Any], status: int, content: bytes | None) -> None:
    response = lab.send(
        ("ETag", '"app"'), ("Cache-Control", "private"), ("X-Sendfile", "{lab}/www/allowed.txt"), **asked
    )
    assert response.status_int == status
    taken = take(response)
    assert taken == content or (content is None and ALLOWED not in taken)
    if status in (200, 206, 304):
        assert response.headers["Cache-Control"] == "private"
        assert response.headers["ETag"] == '"app"'


def test_the_last_modified_of_the_backend_is_what_counts(lab: Lab) -> None:
    fields = (("Last-Modified", "Mon, 07 Nov 1994 08:49:37 GMT"), ("X-Sendfile", "{lab}/www/allowed.txt"))
    response = lab.send(*fields, if_modified_since=DATE)
    assert take(response) == ALLOWED
    lab.body = Body()
    assert lab.send(*fields, if_modified_since="Mon, 07 Nov 1994 08:49:37 GMT").status_int == 304
    lab.body = Body()
    response = lab.send(("Last-Modified", "junk"), fields[1])
    assert response.headers.getall("Last-Modified") == ["junk"]
    take(response)


@pytest.mark.parametrize("status", ["201 Created", "404 Not Found", "403 Forbidden", "206 Partial Content", "299 Fine"])
def test_a_status_of_its_own_is_kept_and_takes_no_range(lab: Lab, status: str) -> None:
    fields: dict[str, Any] = {"range": "bytes=0-1", "if_none_match": "*"}
    response = lab.send(("X-Sendfile", "{lab}/www/allowed.txt"), status=status, **fields)
    assert response.status == status
    assert "Accept-Ranges" not in response.headers
    assert take(response) == ALLOWED


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "205 Reset Content"])
def test_a_status_without_content_stays_so(lab: Lab, status: str) -> None:
    response = lab.send(("X-Sendfile", "{lab}/www/allowed.txt"), status=status)
    assert response.status == status
    assert response.app_iter is lab.body


@pytest.mark.parametrize(
    "path",
    ["{lab}/www/allowed.txt", "{lab}/www/./dir/../allowed.txt", "{lab}//www///allowed.txt", "/{lab}/www/allowed.txt",
     "{lab}/www/%61llowed.txt", "{lab}/www/absolute.txt", "{lab}/www/dir/deep/up.txt", "{lab}%2fwww%2Fallowed.txt",
     "{lab}/private/../www/allowed.txt"],
)  # fmt: skip
def test_spellings_of_an_allowed_path(lab: Lab, path: str) -> None:
    assert take(lab.send(("X-Sendfile", path))) == ALLOWED


@pytest.mark.parametrize("name", ["a b.txt", "a%20b.txt", "\xe4\xff.txt"])
def test_names_raw_and_encoded(lab: Lab, name: str) -> None:
    # The value's characters stand for its bytes (latin-1, PEP 3333).
    on_disk = name.replace("%20", " ").encode("latin-1")
    (lab.www / os.fsdecode(on_disk)).write_bytes(ALLOWED)
    assert take(lab.send(("X-Sendfile", "{lab}/www/" + name))) == ALLOWED


@pytest.mark.parametrize(
    ("path", "status"),
    [("{lab}/private/secret.txt", 403), ("{lab}/www/linkdir/secret.txt", 403), ("{lab}/www/absolute-out.txt", 403),
     ("{lab}/www/sibling/secret.txt", 403), ("{lab}/www/..%2fprivate/secret.txt", 403), ("{lab}/www/self", 403),
     ("/proc/self/cwd/tests", 403), ("{lab}/www", 403), ("{lab}/www/", 403), ("{lab}/www/dir", 403),
     ("{lab}/www/dir/", 403), ("{lab}/www/sock", 403), ("{lab}/www/null", 403), ("/", 403), ("{lab}", 403),
     ("{lab}/www/allowed.txt/", 404), ("{lab}/www/allowed.txt/x", 404), ("{lab}/www/%252e%252e/private", 404),
     ("{lab}/www/..\\private\\secret.txt", 404), ("{lab}/www/dangling", 404), ("{lab}/www/" + "x/" * 3000, 404)],
)  # fmt: skip
def test_what_is_not_sent(lab: Lab, path: str, status: int) -> None:
    response = lab.send(("X-Sendfile", path), ("Set-Cookie", "secret=1"))
    assert response.status_int == status
    assert "Set-Cookie" not in response.headers
    assert filerig.SECRET not in take(response)
    assert lab.body.is_closed


@pytest.mark.parametrize(
    "fields",
    [
        [("X-Sendfile", "")],
        [("X-Sendfile", "%")],
        [("X-Sendfile", "{lab}/www/100%.txt")],
        [("X-Sendfile", "{lab}/www/%zz")],
        [("X-Sendfile", "{lab}/www/allowed.txt%00")],
        [("X-Sendfile", "{lab}/www/%7f")],
        [("X-Sendfile", "{lab}/www/%0d%0aX:y")],
        [("X-Sendfile", "allowed.txt")],
        [("X-Sendfile", "file://{lab}/www/allowed.txt")],
        [("X-Sendfile", "{lab}/www/allowed.txt"), ("x-sendfile", "{lab}/www/allowed.txt")],
        [("X-Sendfile", "{lab}/www/allowed.txt"), ("X-LIGHTTPD-send-file", "{lab}/www/allowed.txt")],
        [("X-Sendfile", "{lab}/www/allowed.txt"), ("X-Sendfile2", "{lab}/www/allowed.txt 0-")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 0-"), ("X-Sendfile", "{lab}/www/allowed.txt")],
        [("X-Sendfile2", "")],
        [("X-Sendfile2", "{lab}/www/allowed.txt")],
        [("X-Sendfile2", "{lab}/www/allowed.txt ")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 5")],
        [("X-Sendfile2", "{lab}/www/allowed.txt -5")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 5-2")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 21-")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 0x1-2")],
        [("X-Sendfile2", "{lab}/www/allowed.txt " + "9" * 5000 + "-")],
        [("X-Sendfile2", "{lab}/www/allowed.txt 0-,")],
        [("X-Sendfile2", " 0-")],
        [("X-Sendfile2", "allowed.txt 0-")],
        [("X-Sendfile2", ",".join(["{lab}/www/allowed.txt 0-"] * 65))],
    ],
)
def test_malformed(lab: Lab, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(BadCGIResponse, match="X-Sendfile"):
        lab.send(*fields)
    assert lab.body.is_closed


@pytest.mark.parametrize(
    ("values", "content"),
    [
        (["{lab}/www/allowed.txt 0-6"], b"ALLOWED"),
        (["{lab}/www/allowed.txt 2-4"], b"LOW"),
        (["{lab}/www/allowed.txt 17-"], b"ENT"),
        (["{lab}/www/allowed.txt 17-999"], b"ENT"),
        (["{lab}/www/allowed.txt 20-"], b""),
        (["{lab}/www/allowed.txt 0-6, {lab}/www/dir/inner.txt 7-11"], b"ALLOWED-FILE"),
        (["{lab}/www/allowed.txt 8-11,{lab}/www/allowed.txt 0-6"], b"FILEALLOWED"),
        (["{lab}/www/allowed.txt 0-1", "{lab}/www/with%2ccomma 0-"], b"ALCOMMA"),
        (["{lab}/www/with%2Ccomma  0-2"], b"COM"),
        (["{lab}/www/empty.txt 0-"], b""),
        ([",".join(["{lab}/www/allowed.txt 0-0"] * 64)], b"A" * 64),
    ],
)
def test_x_sendfile2(lab: Lab, values: list[str], content: bytes) -> None:
    (lab.www / "with,comma").write_bytes(b"COMMA")
    response = lab.send(("Cache-Control", "private"), *(("X-Sendfile2", value) for value in values), range="bytes=0-0")
    assert response.status == "200 OK"
    assert response.headerlist == [("Cache-Control", "private"), ("Content-Length", str(len(content)))]
    assert take(response) == content


def test_x_sendfile2_with_the_status_and_range_of_the_backend(lab: Lab) -> None:
    fields = [("Content-Range", "bytes 17-19/20"), ("X-Sendfile2", "{lab}/www/allowed.txt 17-")]
    response = lab.send(*fields, status="206 Partial content")
    assert (response.status, response.headers["Content-Range"]) == ("206 Partial content", "bytes 17-19/20")
    assert take(response) == b"ENT"


@pytest.mark.parametrize(
    ("value", "status"),
    [("{lab}/private/secret.txt 0-", 403), ("{lab}/www/linkdir/secret.txt 0-", 403), ("{lab}/www/nope 0-", 404),
     ("{lab}/www/dir 0-", 403), ("{lab}/www/allowed.txt 0-,{lab}/private/secret.txt 0-", 403)],
)  # fmt: skip
def test_x_sendfile2_refused(lab: Lab, value: str, status: int) -> None:
    response = lab.send(("X-Sendfile2", value))
    assert response.status_int == status
    content = take(response)
    assert filerig.SECRET not in content
    assert ALLOWED not in content


def test_several_docroots(lab: Lab) -> None:
    shared = lab.folder / "shared"
    host = HostConfig(x_sendfile=True, x_sendfile_docroot=(f"{lab.www}//dir/", f"{shared}/", "relative", str(lab.www)))
    for path, content in (
        ("www/allowed.txt", ALLOWED),
        ("shared/shared.txt", b"SHARED"),
        ("www/shared.txt", b"SHARED"),
    ):
        assert take(lab.send(("X-Sendfile", f"{{lab}}/{path}"), host=host)) == content
        lab.body = Body()
    assert lab.send(("X-Sendfile", "{lab}/private/secret.txt"), host=host).status_int == 403


def test_a_docroot_that_is_no_path_allows_nothing(lab: Lab) -> None:
    host = HostConfig(x_sendfile=True, x_sendfile_docroot=("", "relative"))
    assert lab.send(("X-Sendfile", "{lab}/www/allowed.txt"), host=host).status_int == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("{lab}/private/secret.txt", 200), ("{lab}/www/absolute-out.txt", 200), ("{lab}/www/fifo", 403),
     ("/dev/null", 403), ("/proc/self/fd/0", 403), ("{lab}/www/dir", 403), ("{lab}/nope", 404), ("/", 403)],
)  # fmt: skip
def test_no_docroot_means_anywhere_but_regular_files_only(lab: Lab, path: str, status: int) -> None:
    response = lab.send(("X-Sendfile", path), host=HostConfig(x_sendfile=True))
    assert response.status_int == status
    content = take(response)
    assert content == filerig.SECRET or status != 200


def test_a_body_without_close(lab: Lab) -> None:
    response = webob.Response(headerlist=[("X-Sendfile", f"{lab.www}/allowed.txt")], app_iter=[b"own"])
    assert take(apply_x_sendfile(ask("/"), response, lab.host, SETTINGS)) == ALLOWED


def test_a_refusal_is_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """The client sees 403 or 404 alone: whoever runs the site has to learn which file it was, and what allows it."""
    for fields, told in (
        (
            ("X-Sendfile", "{lab}/private/secret.txt"),
            "{lab}/private/secret.txt, which is refused (403): it lies outside",
        ),
        (("X-Sendfile", "{lab}/www/dir"), "{lab}/www/dir, which is refused (403): no regular file"),
        (("X-Sendfile", "{lab}/www/nope"), "{lab}/www/nope, which is refused (404): No such file or directory"),
        (
            ("X-Sendfile2", "{lab}/www/allowed.txt 0-,{lab}/www/a%ffb 0-"),
            "{lab}/www/a\\xffb, which is refused (404): No such file or directory",
        ),
    ):
        caplog.clear()
        lab.send(fields)
        line = f'X-Sendfile names {told.replace("{lab}", str(lab.folder))}; see "x-sendfile-docroot"'
        assert [message.partition(": ")[2] for message in caplog.messages] == [line]
        assert caplog.records[0].levelname == "WARNING"


def test_refusals_fold(lab: Lab, tmp_path: Path) -> None:
    """A client that can choose the name must not fill the disk."""
    log = setup(f"{tmp_path}/error.log")
    try:
        for number in range(300):
            lab.body = Body()
            lab.send(("X-Sendfile", f"{{lab}}/www/nope{number}"))
        log.flush()
        lines = (tmp_path / "error.log").read_text().splitlines()
    finally:
        logging.getLogger("gfastcgi").removeHandler(log)
        logging.getLogger("gfastcgi").propagate = True
        log.close()
    assert len(lines) == BURST + 1
    assert lines[-1].endswith(f"... and {300 - BURST} more of this kind")
