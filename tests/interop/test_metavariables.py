"""Meta-variables as lighttpd sends them: one file, one backend, the same requests, two gateways to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from peers.backend import ScriptedBackend, Seen
from peers.http import Connection
from peers.programs import find_peer, start_lighttpd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

# What differs by nature: ephemeral ports, and the servers' own names.
DIFFERENT = {"SERVER_PORT", "REMOTE_PORT", "SERVER_SOFTWARE"}
# Fields between the client and us alone (RFC 9110 section 7.6.1): gfastcgi keeps them to itself.
HOP_BY_HOP = {"HTTP_TE", "HTTP_KEEP_ALIVE", "HTTP_X_A"}

SITES = {
    "suffix": 'fastcgi.server = ( ".php" => (( {backend} )) )',
    "suffix-unchecked": 'fastcgi.server = ( ".php" => (( {backend}, "check-local" => "disable" )) )',
    "prefix": 'fastcgi.server = ( "/app" => (( {backend}, "check-local" => "disable" )) )',
    "prefix-slash": 'fastcgi.server = ( "/app/" => (( {backend}, "check-local" => "disable" )) )',
    "prefix-checked": 'fastcgi.server = ( "/sub" => (( {backend} )) )',
    "prefix-docroot":
        'fastcgi.server = ( "/app/" => (( {backend}, "check-local" => "disable", "docroot" => "/far" )) )',
    "suffix-docroot": 'fastcgi.server = ( ".php" => (( {backend}, "docroot" => "/far" )) )',
    "broken-scriptfilename": 'fastcgi.server = ( ".php" => (( {backend}, "broken-scriptfilename" => "enable" )) )',
    "broken-with-docroot":
        'fastcgi.server = ( ".php" => (( {backend}, "broken-scriptfilename" => "enable", "docroot" => "/far" )) )',
    "root": 'fastcgi.server = ( "/" => (( {backend}, "check-local" => "disable" )) )',
    "fix-root-scriptname":
        'fastcgi.server = ( "/" => (( {backend}, "check-local" => "disable", "fix-root-scriptname" => "enable" )) )',
    "strip-request-uri":
        'fastcgi.server = ( "/app" => (( {backend}, "check-local" => "disable", "strip-request-uri" => "/app/" )) )',
    "map-extensions":
        'fastcgi.map-extensions = ( ".php3" => ".php" )\nfastcgi.server = ( ".php" => (( {backend} )) )',
    "index": 'index-file.names = ( "nothing.php", "index.php" )\nfastcgi.server = ( ".php" => (( {backend} )) )',
    "rewrite":
        'url.rewrite-once = ( "^/sub/$" => "/sub/index.php",'
        ' "^/blog/([a-z]+)(\\?(.*))?$" => "/app.php/$1?page=$1&$3" )\n'
        'fastcgi.server = ( ".php" => (( {backend} )) )',
    "order": 'fastcgi.server = ( "/sub" => (( {backend}, "check-local" => "disable" )), ".php" => (( {backend} )) )',
    "names": 'server.name = "site.example"\nserver.tag = "tag/1"\nfastcgi.server = ( ".php" => (( {backend} )) )',
    "conditions":
        '$HTTP["host"] == "other.example" {{ server.document-root = "{root}/sub" }}\n'
        '$HTTP["url"] =~ "^/app" {{ fastcgi.server = ( ".php" => (( {backend} )) ) }}\n'
        'else $HTTP["url"] =~ "^/sub" {{ fastcgi.server = ( "/sub" => (( {backend}, "check-local" => "disable" )) ) }}',
    "alias":
        'alias.url = ( "/other/" => "{root}/sub/" )\nfastcgi.server = ( ".php" => (( {backend} )) )',
}  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One request, as bytes."""

    line: str
    fields: tuple[str, ...] = ("Host: www.example",)
    body: bytes = b""

    def encode(self) -> bytes:
        length = (f"Content-Length: {len(self.body)}",) if self.body else ()
        return "\r\n".join([self.line, *self.fields, *length, "", ""]).encode("latin-1") + self.body


REQUESTS = [
    Sent("GET /app.php HTTP/1.1"),
    Sent("GET /app.php?a=1&b=%20c+d HTTP/1.1"),
    Sent("GET /app.php? HTTP/1.1"),
    Sent("GET /app.php/path/info HTTP/1.1"),
    Sent("GET /app.php/path%20info/x?q HTTP/1.1"),
    Sent("GET /app.php/ HTTP/1.1"),
    Sent("HEAD /app.php HTTP/1.1"),
    Sent("OPTIONS /app.php HTTP/1.1"),
    Sent("DELETE /app.php HTTP/1.1"),
    Sent("POST /app.php HTTP/1.1", ("Host: www.example", "Content-Type: text/plain"), b"hello"),
    Sent("POST /app/run?x=1 HTTP/1.1", ("Host: www.example", "Content-Type: a/b"), b"x" * 100_000),
    Sent("PUT /app.php/thing HTTP/1.1", body=b"put"),
    Sent("GET /app HTTP/1.1"),
    Sent("GET /app/ HTTP/1.1"),
    Sent("GET /app/test.cgi HTTP/1.1"),
    Sent("GET /app/test.cgi/info/more?x=y HTTP/1.1"),
    Sent("GET /apple HTTP/1.1"),
    Sent("GET / HTTP/1.1"),
    Sent("GET /?only=query HTTP/1.1"),
    Sent("GET /sub/ HTTP/1.1"),
    Sent("GET /sub/?x=1 HTTP/1.1"),
    Sent("GET /sub HTTP/1.1"),
    Sent("GET /sub/index.php/info HTTP/1.1"),
    Sent("GET /other/index.php HTTP/1.1"),
    Sent("GET /blog/post HTTP/1.1"),
    Sent("GET /blog/post?a=b HTTP/1.1"),
    Sent("GET /old.php3?x HTTP/1.1"),
    Sent("GET /old.php3/info HTTP/1.1"),
    Sent("GET /missing.php HTTP/1.1"),
    Sent("GET /missing.php/info HTTP/1.1"),
    Sent("GET /a%20b.php HTTP/1.1"),
    Sent("GET /%61pp.php HTTP/1.1"),
    Sent("GET /caf%c3%a9.php HTTP/1.1"),
    Sent("GET /caf%C3%A9.php/%C3%A9 HTTP/1.1"),
    Sent("GET /sub/../app.php HTTP/1.1"),
    Sent("GET /sub/./index.php HTTP/1.1"),
    Sent("GET //app.php HTTP/1.1"),
    Sent("GET /app.php/a//b HTTP/1.1"),
    Sent("GET /app.php?x=/../y HTTP/1.1"),
    Sent("GET /app.php/~a!$&'()*+,;=:@b HTTP/1.1"),
    Sent("GET http://www.example/app.php?x HTTP/1.1"),
    Sent("GET /app.php HTTP/1.0", ()),
    Sent("GET /app.php HTTP/1.0", ("Host: old.example", "Connection: keep-alive")),
    Sent("GET /app.php HTTP/1.1", ("Host: Other.Example",)),
    Sent("GET /index.php HTTP/1.1", ("Host: other.example:8080",)),
    Sent("GET /app.php HTTP/1.1", ("Host: [::1]:8080",)),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "Cookie: a=1; b=2", "Referer: http://x/", "X-Empty:")),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "X-Many: 1", "x-many: 2", "Accept: a/b", "Accept: c/d")),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "Authorization: Basic dTpw", "Proxy: http://evil/")),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "Range: lines=0-1", "If-None-Match: x", "TE: trailers")),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "X-Spaces: \t a  b \t", "X-Latin: caf\xe9")),
    Sent("GET /app.php HTTP/1.1", ("Host: www.example", "Connection: close, X-A", "X-A: b", "Keep-Alive: 5")),
]


def make_root(folder: Path) -> Path:
    root = folder / "www"
    (root / "sub").mkdir(parents=True)
    for name in ("app.php", "index.php", "sub/index.php", "a b.php", "café.php", "old.php3", "plain.txt"):
        (root / name).write_text("a file")
    return root


def ask(address: str | tuple[str, int], backend: ScriptedBackend, sent: Sent) -> tuple[int, Seen | None]:
    """The status, and what the backend saw of the request."""
    before = len(backend.requests)
    with Connection(address) as connection:
        connection.send(sent.encode())
        answer = connection.read_answer(sent.line.split()[0])
    seen = backend.requests[before:]
    assert len(seen) <= 1, "one request arrived twice"
    return answer.status, seen[0] if seen else None


def differences(theirs: tuple[int, Seen | None], ours: tuple[int, Seen | None]) -> list[str]:
    """What is not as lighttpd has it, less what docs/lighttpd.md says is meant to differ."""
    if theirs[1] is None or ours[1] is None:
        same = theirs[1] is ours[1] is None
        return [] if same else [f"only one sent it to its backend: lighttpd {theirs[0]}, gfastcgi {ours[0]}"]
    left, right = theirs[1].params, ours[1].params
    if left.get("REDIRECT_URI") == right.get("REQUEST_URI") and "REDIRECT_URI" not in right:
        # One canonical target is what is authorised, served and sent: lighttpd sends the client's spelling beside it.
        left = {**left, "REQUEST_URI": left["REDIRECT_URI"]}
        del left["REDIRECT_URI"]
    if not left["SERVER_NAME"]:  # RFC 3875 section 4.1.14 wants one
        left = {**left, "SERVER_NAME": left["SERVER_ADDR"]}
    left = {name: value for name, value in left.items() if name not in HOP_BY_HOP}
    if not left["SCRIPT_NAME"].endswith(b"/") and left["SCRIPT_FILENAME"] == right["SCRIPT_FILENAME"] + b"/":
        left["SCRIPT_FILENAME"] = right["SCRIPT_FILENAME"]  # a file's name does not end with a slash
    found = [] if theirs[0] == ours[0] else [f"status: lighttpd {theirs[0]}, gfastcgi {ours[0]}"]
    found += [
        f"{name}: lighttpd {left.get(name)!r}, gfastcgi {right.get(name)!r}"
        for name in sorted({*left, *right} - DIFFERENT)
        if left.get(name) != right.get(name)
    ]
    if theirs[1].stdin_sha256 != ours[1].stdin_sha256:
        found.append("the body differs")
    return found


@pytest.mark.parametrize("site", SITES)
def test_as_lighttpd(
    site: str, tmp_path: Path, backend: Callable[..., ScriptedBackend], processes: Processes,
    gateway: Callable[..., Gateway],
) -> None:  # fmt: skip
    find_peer("lighttpd")
    peer, root = backend(), make_root(tmp_path)
    config = f'server.document-root = "{root}"\nmimetype.assign = ( ".txt" => "text/plain" )\n'
    config += SITES[site].format(backend=peer.option, root=root) + "\n"
    theirs = start_lighttpd(processes, tmp_path, config, "mod_rewrite mod_alias mod_indexfile mod_fastcgi")
    ours = gateway(config)
    report: dict[str, list[str]] = {}
    for sent in REQUESTS:
        for found in differences(ask(("127.0.0.1", theirs), peer, sent), ask(ours.address, peer, sent)):
            report.setdefault(found.replace(str(root), "ROOT"), []).append(f"{sent.line} {sent.fields}")
    lines = [f"{found}\n    {len(lines)} of {len(REQUESTS)}, as {lines[0]}" for found, lines in report.items()]
    assert not report, "\n".join(lines)
    assert {len(seen.names) - len(seen.params) for seen in peer.requests} == {0}, "a name was sent twice"
