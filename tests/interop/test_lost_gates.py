"""Two conditionals that hold for one request, of which the later takes the gate of the earlier away: it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

SITE = """
server.document-root = "{root}"
server.port = 0
server.bind = "127.0.0.1"
$HTTP["host"] == "a.example" {{
    fastcgi.server = ( "/private/" => (( "host" => "127.0.0.1", "port" => 1, "mode" => "authorizer" )) )
}}
$HTTP["querystring"] =~ "^t" {{
    fastcgi.server = ( ".pl" => (( "host" => "127.0.0.1", "port" => 1 )) )
}}
$HTTP["querystring"] =~ "tag$" {{
    server.tag = "t"
}}
"""


def test_it_is_told_once_and_not_before_it_happens(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    site = gateway(SITE.format(root=tmp_path))
    targets = ["/private/x", "/private/x?t", "/private/x?t", "/private/x?tag"]
    assert site.get(targets[0], Host="a.example").status == 503
    assert "is not guarded" not in site.log
    assert [site.get(target, Host="a.example").status for target in targets[1:]] == [404, 404, 404]
    site.wait_for_log(r":8: fastcgi.server: .* the one of \S+:5, .* \"/private/\" \(\S+:6\) is not guarded")
    site.stop()
    assert site.log.count("is not guarded") == 1
