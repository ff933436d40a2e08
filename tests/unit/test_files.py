"""Static files: every answer that a document root can give."""

from __future__ import annotations

import email
import errno
import os
from typing import TYPE_CHECKING, Any

import filerig
import pytest
from filerig import ALLOWED, ask, take

from gfastcgi.config import Settings
from gfastcgi.files import serve_file
from gfastcgi.files.answer import refusal
from gfastcgi.net.sendfile import FileBody

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import webob

MTIME = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
TYPES = ((".txt", "text/plain; charset=utf-8"), (".gz", "application/gzip"), (".tar.gz", "application/x-tgz"))
SETTINGS = Settings(mimetypes=TYPES)
SIZE = len(ALLOWED)


@pytest.fixture
def www(tmp_path: Path) -> Iterator[Path]:
    www = filerig.build(tmp_path)
    os.utime(www / "allowed.txt", (MTIME, MTIME))
    before = filerig.open_fds()
    yield www
    assert filerig.open_fds() == before


def get(www: Path, target: str, method: str = "GET", settings: Settings = SETTINGS, **fields: Any) -> webob.Response:
    request = ask(target, method, **fields)
    return serve_file(request, str(www), request.path, settings)


def etag(www: Path, path: str = "allowed.txt") -> str:
    response = get(www, "/" + path, "HEAD")
    return str(response.headers["ETag"])


def test_a_file(www: Path) -> None:
    response = get(www, "/allowed.txt")
    assert response.status == "200 OK"
    assert isinstance(response.app_iter, FileBody)
    status = (www / "allowed.txt").stat()
    assert sorted(response.headerlist) == [
        ("Accept-Ranges", "bytes"),
        ("Content-Length", str(SIZE)),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("ETag", f'"{status.st_ino:x}-{SIZE:x}-{MTIME * 10**9:x}"'),
        ("Last-Modified", DATE),
    ]
    assert take(response) == ALLOWED


def test_head_has_the_fields_and_no_body(www: Path) -> None:
    plain, head = get(www, "/allowed.txt"), get(www, "/allowed.txt", "HEAD")
    assert head.headerlist == plain.headerlist
    assert take(head) == b""
    take(plain)


def test_post_gets_the_file(www: Path) -> None:
    response = get(www, "/allowed.txt", "POST", range="bytes=0-1")
    assert response.status_int == 200
    assert "Accept-Ranges" not in response.headers
    assert take(response) == ALLOWED


def test_an_empty_file(www: Path) -> None:
    asked: list[dict[str, Any]] = [{}, {"range": "bytes=0-"}, {"range": "bytes=-5"}]
    for fields in asked:
        response = get(www, "/empty.txt", **fields)
        assert (response.status_int, response.headers["Content-Length"]) == (200, "0")
        assert take(response) == b""


def test_options(www: Path) -> None:
    response = get(www, "/allowed.txt", "OPTIONS", if_match='"x"')
    assert (response.status_int, response.headers["Allow"]) == (200, "OPTIONS, GET, HEAD, POST")
    assert take(response) == b""
    assert response.headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "PROPFIND", "TRACE", "get"])
def test_other_methods(www: Path, method: str) -> None:
    response = get(www, "/allowed.txt", method)
    assert (response.status_int, response.headers["Allow"]) == (405, "OPTIONS, GET, HEAD, POST")
    assert ALLOWED not in take(response)


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nope.txt", 404), ("/allowed.txt/", 404), ("/allowed.txt/x", 404), ("/nope/", 404), ("/dangling", 404),
     ("/dir/", 403), ("/absolute-dir/", 403), ("/fifo", 403), ("/sock", 403), ("/null", 403), ("/loop", 403),
     ("/linkdir/secret.txt", 403), ("/absolute-out.txt", 403), ("/dir/out.txt", 403), ("/shared.txt", 403),
     ("/self", 403), ("/fd", 403), ("/linkdir", 403), ("/" + "a" * 5000, 404),
     ("/absolute.txt", 200), ("/dir/deep/up.txt", 200), ("/dir/again/inner.txt", 200)],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_status(www: Path, target: str, status: int, method: str) -> None:
    response = get(www, target, method)
    assert response.status_int == status
    content = take(response)
    assert (content == ALLOWED) is (status == 200 and method != "HEAD")
    assert filerig.SECRET not in content


def test_links_into_a_named_tree(www: Path) -> None:
    settings = Settings(symlink_roots=(str(www.parent / "shared"),))
    assert take(get(www, "/shared.txt", settings=settings)) == b"SHARED"
    assert get(www, "/linkdir/secret.txt", settings=settings).status_int == 403


def test_excluded_extensions(www: Path) -> None:
    settings = Settings(static_exclude_extensions=(".txt", ".inc"))
    assert get(www, "/allowed.txt", settings=settings).status_int == 403
    assert get(www, "/nope.inc", settings=settings).status_int == 403
    assert get(www, "/nope.html", settings=settings).status_int == 404


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/dir", "/dir/"),
        ("/dir/deep?a=b&c=/d/", "/dir/deep/?a=b&c=/d/"),
        ("/sp%20%C3%A4%FF%3F%23%25", "/sp%20%C3%A4%FF%3F%23%25/"),
        ("/dir?q=\xe4%0d%0a", "/dir/?q=%E4%0D%0A"),
    ],
)
def test_redirect_to_the_slash(www: Path, target: str, location: str) -> None:
    (www / os.fsdecode(b"sp \xc3\xa4\xff?#%")).mkdir()
    response = get(www, target)
    assert (response.status_int, response.headers["Location"]) == (301, location)
    assert take(response) == b""


@pytest.mark.parametrize("path", ["//evil.example/..", "/\\evil.example", "/\t/evil.example", "//\r\nX: y", "///"])
def test_redirects_stay_on_this_site(www: Path, path: str) -> None:
    request = ask("/dir")
    request.path = path
    request.query = "a\r\nX: y"
    if path.endswith("/"):
        assert serve_file(request, str(www), "dir", SETTINGS).status_int == 403
        return
    location = serve_file(request, str(www), "dir", SETTINGS).headers["Location"]
    assert location[0] == "/"
    assert location[1] not in "/\\"
    assert location.isprintable()
    assert " " not in location


@pytest.mark.parametrize("field", ["range", "if_none_match", "if_modified_since", "if_match", "if_unmodified_since"])
def test_broken_fields_count_for_nothing_or_fail(www: Path, field: str) -> None:
    fields: dict[str, Any] = {field: "\xff, junk"}
    response = get(www, "/allowed.txt", **fields)
    assert response.status_int == (412 if field == "if_match" else 200)
    take(response)


def test_conditional(www: Path) -> None:
    tag = etag(www)
    asked: list[dict[str, Any]] = [{"if_none_match": tag}, {"if_none_match": "W/" + tag}, {"if_modified_since": DATE}]
    for fields in asked:
        for method in ("GET", "HEAD"):
            response = get(www, "/allowed.txt", method, range="bytes=0-1", **fields)
            assert response.status == "304 Not Modified"
            assert response.headerlist == [("Last-Modified", DATE), ("ETag", tag)]
            assert take(response) == b""
    response = get(www, "/allowed.txt", if_match='"x"')
    assert response.status_int == 412
    take(response)
    response = get(www, "/allowed.txt", if_match=tag, if_none_match='"x"')
    assert take(response) == ALLOWED


def test_the_tag_changes_with_the_file(www: Path) -> None:
    first = etag(www)
    (www / "allowed.txt").write_bytes(ALLOWED)
    second = etag(www)
    os.utime(www / "allowed.txt", ns=(0, MTIME * 10**9 + 1))
    assert len({first, second, etag(www), etag(www, "empty.txt")}) == 4


def test_no_etags(www: Path) -> None:
    response = get(www, "/allowed.txt", settings=Settings(etags=False), if_none_match='""')
    assert "ETag" not in response.headers
    assert take(response) == ALLOWED
    assert get(www, "/allowed.txt", settings=Settings(etags=False), if_modified_since=DATE).status_int == 304


@pytest.mark.parametrize(
    ("value", "span"),
    [("bytes=0-0", (0, 1)), ("bytes=5-", (5, SIZE)), ("bytes=-3", (SIZE - 3, SIZE)), ("bytes=2-999", (2, SIZE))],
)
def test_a_range(www: Path, value: str, span: tuple[int, int]) -> None:
    response = get(www, "/allowed.txt", range=value)
    assert response.status == "206 Partial Content"
    assert response.headers["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/{SIZE}"
    assert response.headers["Content-Type"] == TYPES[0][1]
    assert response.headers["ETag"] == etag(www)
    assert take(response) == ALLOWED[slice(*span)]
    head = get(www, "/allowed.txt", "HEAD", range=value)
    assert (head.status_int, head.headers["Content-Length"]) == (200, str(SIZE))


def test_several_ranges(www: Path) -> None:
    response = get(www, "/allowed.txt", range="bytes=8-11, 0-6, -2")
    assert response.status_int == 206
    assert "Content-Range" not in response.headers
    head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
    parts = list(email.message_from_bytes(head + take(response)).walk())[1:]
    assert [part.get_payload() for part in parts] == ["FILE", "ALLOWED", "NT"]
    assert [part["Content-Range"] for part in parts] == ["bytes 8-11/20", "bytes 0-6/20", "bytes 18-19/20"]
    assert {part["Content-Type"] for part in parts} == {TYPES[0][1]}
    again = get(www, "/allowed.txt", range="bytes=8-11, 0-6")
    assert again.headers["Content-Type"] != response.headers["Content-Type"], "the boundary cannot be guessed"
    take(again)


def test_not_satisfiable(www: Path) -> None:
    response = get(www, "/allowed.txt", range=f"bytes={SIZE}-")
    assert (response.status_int, response.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert ALLOWED not in take(response)


def test_too_many_ranges_get_the_whole(www: Path) -> None:
    response = get(www, "/allowed.txt", range="bytes=" + ",".join(["0-"] * 1000))
    assert response.status_int == 200
    assert take(response) == ALLOWED


def test_if_range(www: Path) -> None:
    for value, status in ((etag(www), 206), (DATE, 206), ('"x"', 200), ("W/" + etag(www), 200), ("junk", 200)):
        response = get(www, "/allowed.txt", range="bytes=0-1", if_range=value)
        assert response.status_int == status, value
        take(response)
    response = get(www, "/allowed.txt", range="bytes=99-", if_range='"x"')
    assert take(response) == ALLOWED


def test_ranges_beyond_4_gib(www: Path) -> None:
    size = (5 << 30) + 1
    with (www / "big").open("wb") as file:
        file.truncate(size)
        file.seek(size - 4)
        file.write(b"tail")
    response = get(www, "/big", range=f"bytes={size - 4}-")
    assert response.headers["Content-Range"] == f"bytes {size - 4}-{size - 1}/{size}"
    assert take(response) == b"tail"
    response = get(www, "/big", "HEAD")
    assert response.headers["Content-Length"] == str(size)


@pytest.mark.parametrize(
    ("name", "types", "expected"),
    [
        ("a.txt", TYPES, "text/plain; charset=utf-8"),
        ("A.TXT", TYPES, "text/plain; charset=utf-8"),
        ("a.gz", TYPES, "application/gzip"),
        ("a.tar.gz", TYPES, "application/x-tgz"),
        ("a.html", TYPES, "text/html"),
        ("a.html", (*TYPES, ("", "x/default")), "x/default"),
        ("noext", TYPES, "application/octet-stream"),
        ("a.unknown", TYPES, "application/octet-stream"),
        ("README", (("README", "text/x-readme"),), "text/x-readme"),
        ("noext", (("", "x/default"),), "x/default"),
        ("\u212a.\u212as", (), "application/octet-stream"),
        ("a.png", (), "image/png"),
    ],
)
def test_content_types(www: Path, name: str, types: tuple[tuple[str, str], ...], expected: str) -> None:
    (www / name).write_bytes(b"x")
    request = ask("/")
    response = serve_file(request, str(www), name, Settings(mimetypes=types))
    assert response.headers["Content-Type"] == expected
    take(response)


def test_many_sites_have_their_own_types(www: Path) -> None:
    for number in range(300):
        response = get(www, "/allowed.txt", settings=Settings(mimetypes=((".txt", f"x/{number}"),)))
        assert response.headers["Content-Type"] == f"x/{number}"
        take(response)


@pytest.mark.parametrize(
    ("error", "status"),
    [(FileNotFoundError(), 404), (NotADirectoryError(), 404), (PermissionError(), 403)],
)
def test_refusals(error: OSError, status: int) -> None:
    assert refusal(ask("/"), error).status_int == status


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_faults_of_the_system_are_for_the_gateway_to_answer(number: int) -> None:
    with pytest.raises(OSError, match="broken"):
        refusal(ask("/"), OSError(number, "broken"))


def test_a_fault_on_the_way_leaves_no_descriptor(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfastcgi.files.answer.parse_range", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        get(www, "/allowed.txt", range="bytes=0-1")
