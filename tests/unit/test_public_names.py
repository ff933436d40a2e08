"""`import gfastcgi`: the public names are there, and cost nothing before they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gfastcgi


@pytest.mark.parametrize("name", gfastcgi.__all__)
def test_a_name_is_what_its_home_has(name: str) -> None:
    value = getattr(gfastcgi, name)
    if name != "__version__":
        assert getattr(sys.modules[value.__module__], name) is value
        assert value.__doc__


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        gfastcgi.Server  # type: ignore[attr-defined]  # noqa: B018


def test_importing_is_light_and_nothing_is_patched() -> None:
    program = (
        "import sys, socket, gfastcgi\n"
        "heavy = {'gevent', 'webob', 'httptools', 'regex', 'logging'} & set(sys.modules)\n"
        "plain = socket.socket\n"
        "for name in gfastcgi.__all__: getattr(gfastcgi, name)\n"
        "from gevent import monkey\n"
        "assert socket.socket is plain and not monkey.saved, monkey.saved\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
