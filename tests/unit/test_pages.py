"""The gateway's own answers."""

from __future__ import annotations

import pytest

from gfastcgi.pages import error_page, redirect


@pytest.mark.parametrize(
    ("status", "title"), [(404, "404 Not Found"), (431, "431 Request Header Fields Too Large"), (599, "599 Unknown")]
)
def test_error_page(status: int, title: str) -> None:
    page = error_page(status)
    assert (page.status, page.content_type, page.charset) == (title, "text/html", "utf-8")
    assert f"<h1>{title}</h1>" in page.text
    assert "<small>" not in page.text


def test_it_names_the_cause_and_the_request_and_nothing_unescaped() -> None:
    page = error_page(502, cause="<b>", request_id="7", headers=(("Retry-After", "1"),))
    assert "<small>&lt;b&gt; request 7</small>" in page.text
    assert page.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/a/b?c=d#e", "/a/b?c=d#e"),
        ("https://other.example/x", "https://other.example/x"),
        ("//evil.example/x", "/evil.example/x"),
        ("/\\evil.example", "/evil.example"),
        ("\\\\evil.example", "/evil.example"),
        ("relative", "/relative"),
        ("/a\r\nX-Evil: 1", "/a%0D%0AX-Evil:%201"),
        ("/caf\xe9 <x>", "/caf%C3%A9%20%3Cx%3E"),
        ("/x?next=http://a/", "/x?next=http://a/"),
    ],
)
def test_redirect(location: str, sent: str) -> None:
    answer = redirect(location, 302)
    assert (answer.status, answer.headers["Location"], answer.body) == ("302 Found", sent, b"")


def test_a_path_that_looks_like_a_uri_stays_a_path() -> None:
    assert redirect("//e://x").headers["Location"] == "/e://x"
