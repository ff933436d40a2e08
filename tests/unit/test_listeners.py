"""Listening sockets, and the files of those that have one."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gfastcgi.config import Address
from gfastcgi.net.listeners import ListenError, SocketFile, address_of, listen


def accepts(address: Address) -> bool:
    """Whether the kernel takes a connection to `address`."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as client:
        try:
            client.connect(address.path or (address.host, address.port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp(host: str) -> None:
    with listen(Address(host, 0)) as listener:
        address = address_of(listener)
        assert address.host == host
        assert address.port
        assert accepts(address)
        with pytest.raises(ListenError, match="Address already in use"):
            listen(address)
    assert not accepts(address)


def test_ipv4_and_ipv6_share_a_port() -> None:
    with listen(Address("::", 0)) as six, listen(Address("0.0.0.0", address_of(six).port)) as four:
        assert address_of(four).port == address_of(six).port


def test_unix(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"), mode=0o640)
    with listen(address) as listener:
        assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o640
        assert address_of(listener).path == address.path
        assert accepts(address)
        with pytest.raises(ListenError):  # somebody serves it
            listen(address)
        assert accepts(address)


def test_a_stale_file_is_replaced_and_no_other(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    listen(address).close()
    with listen(address):
        assert accepts(address)
    plain = tmp_path / "plain"
    plain.write_text("kept")
    with pytest.raises(ListenError):
        listen(Address(path=str(plain)))
    assert plain.read_text() == "kept"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file"):
        listen(Address(path=str(tmp_path / "none" / "s")))


def test_the_file_goes_with_its_listener(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    with listen(address):
        file = SocketFile(address)
    file.remove()
    assert not Path(address.path).exists()
    file.remove()


def test_a_successors_file_stays(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    with listen(address):
        file = SocketFile(address)
        Path(address.path).rename(tmp_path / "old")  # its inode lives on, so that the next one is another
        with listen(address):
            file.remove()
            assert accepts(address)


def test_no_file_of_a_port() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        SocketFile(address_of(listener)).remove()
        assert accepts(address_of(listener))
