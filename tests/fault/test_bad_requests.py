"""Requests that are wrong, ambiguous or hostile, against one gateway that lives through them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.cases import Case, check_bad_request, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

CASES = load("http1/bad_requests.json")

SITE = """
server.document-root = "{root}"
server.max-request-size = 1024
server.max-read-idle = 2
fastcgi.server = ( "/echo" => (( {backend}, "check-local" => "disable" )) )
"""


@pytest.fixture(scope="module")
def echo(module_backend: Callable[..., ScriptedBackend]) -> ScriptedBackend:
    return module_backend()


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, echo: ScriptedBackend, module_gateway: Callable[..., Gateway]
) -> Gateway:
    root = tmp_path_factory.mktemp("web")
    (root / "allowed.txt").write_text("ALLOWED-FILE")
    return module_gateway(SITE.format(root=root, backend=echo.option))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bad_request(site: Gateway, echo: ScriptedBackend, case: Case) -> None:
    check_bad_request(site, echo, case)
