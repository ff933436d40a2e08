"""One long-lived gateway with a backend for every kind of case in the catalogue of bad inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import filerig
import pytest
from peers.cases import check_reply, check_request, load, script_of_replies, script_of_x_sendfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.cases import Case
    from peers.gateway import Gateway

SITE = """
server.document-root = "{lab}/www"
server.max-request-size = 1024
server.max-read-idle = 2
var.host = ( "check-local" => "disable", "max-connections" => 3, "read-timeout" => 1 )
fastcgi.server = (
  "/echo" => (( {echo} ) + host ),
  "/reply" => (( {reply} ) + host ),
  "/file" => (( {file}, "x-sendfile" => "enable", "x-sendfile-docroot" => ( "{lab}/www" ) ) + host )
)
"""


@dataclass
class Rig:
    gateway: Gateway
    echo: ScriptedBackend

    def check(self, kind: str, case: Case) -> None:
        """Judges one case of "http1/bad_requests.json", "fcgi/replies.json" or "xsendfile.json"."""
        if kind == "http1/bad_requests.json":
            check_request(self.gateway, self.echo, case)
        else:
            check_reply(self.gateway, "/reply" if kind == "fcgi/replies.json" else "/file", case)


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Rig:
    lab = tmp_path_factory.mktemp("lab")
    filerig.build(lab)
    replies, files = ({case["name"]: case for case in load(name)} for name in ("fcgi/replies.json", "xsendfile.json"))
    echo = module_backend()
    reply = module_backend(script_of_replies(replies))
    file = module_backend(script_of_x_sendfile(files, lab))
    site = SITE.format(lab=lab, echo=echo.option, reply=reply.option, file=file.option)
    return Rig(module_gateway(site), echo)
