"""For test suites: a fake php-fpm, an authorizer that answers in any way, a gateway on a free port; a pytest plugin.

Plan: `pytest_plugins = ["gfastcgi.testing"]` in the conftest.py at the top gives the fixtures `gfastcgi_fpm`,
`gfastcgi_authorizer` and `gfastcgi_gateway` (docs/testing.md); the classes do without pytest's help too. Nobody who
merely has gfastcgi installed gets a fixture, gevent is not imported, and nothing is monkey-patched.
"""

from gfastcgi.conformance.conversation import Asked, Conversation
from gfastcgi.conformance.peer import Peer, Script
from gfastcgi.conformance.rows import ROWS, Reply, Row
from gfastcgi.conformance.wire import answer
from gfastcgi.testing.backends import FakeAuthorizer, FakeFPM
from gfastcgi.testing.gateway import GatewayProcess, write_config
from gfastcgi.testing.plugin import (
    MakeFPM,
    MakeGateway,
    gfastcgi_authorizer,
    gfastcgi_folder,
    gfastcgi_fpm,
    gfastcgi_gateway,
)
from gfastcgi.testing.scripts import (
    allow,
    broken,
    cannot_multiplex,
    deny,
    echo,
    fatal_error,
    in_turn,
    overloaded,
    page,
    script_unknown,
    silent,
    slow,
    unknown_role,
)
from gfastcgi.testing.waiting import wait_until

__all__ = [
    "ROWS", "Asked", "Conversation", "FakeAuthorizer", "FakeFPM", "GatewayProcess", "MakeFPM", "MakeGateway", "Peer",
    "Reply", "Row", "Script", "allow", "answer", "broken", "cannot_multiplex", "deny", "echo", "fatal_error",
    "gfastcgi_authorizer", "gfastcgi_folder", "gfastcgi_fpm", "gfastcgi_gateway", "in_turn", "overloaded", "page",
    "script_unknown", "silent", "slow", "unknown_role", "wait_until", "write_config",
]  # fmt: skip
