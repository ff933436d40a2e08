"""Files of users: what htpasswd, htdigest and hands write, and what is no line of theirs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from peers.programs import find_peer

from gfastcgi.auth.passwords import Accounts, is_slow, parse_accounts, parse_groups
from gfastcgi.auth.userfile import UserFile

if TYPE_CHECKING:
    from pathlib import Path

REALM = b"the realm"


def fits(accounts: Accounts, user: bytes, password: bytes, realm: bytes = REALM) -> bool:
    return any(accounts.fits(secret, user, realm, password) for secret in accounts.stored(user, realm))


@pytest.mark.parametrize("flags", ["-m", "-B -C 4", "-s", "-d", "-2 -r 1000", "-5 -r 1000"])
def test_every_hash_of_htpasswd(flags: str) -> None:
    command = [find_peer("htpasswd"), "-nb", *flags.split(), "änn", "pässword"]
    done = subprocess.run(command, capture_output=True, check=True)
    accounts = parse_accounts("htpasswd", done.stdout)
    assert fits(accounts, "änn".encode(), "pässword".encode())
    for user, password in (("änn", "Pässword"), ("änn", ""), ("ann", "pässword"), ("änn", "p")):
        assert not fits(accounts, user.encode(), password.encode())
    (secret,) = accounts.stored("änn".encode(), b"")
    assert is_slow("htpasswd", secret) == (flags != "-s")


@pytest.mark.parametrize(
    ("secret", "password"),
    [
        ("$1$2YyY0M.X$A2nkWnS8xxwdSuDtLD8./0", "secret"),
        ("{SSHA}sURjWu4ZQIB0kRqMyIyNwmBlwJTTGqNU", "secret"),
        ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "myPassword"),
        ("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "password"),
    ],
)
def test_hashes_of_other_programs(secret: str, password: str) -> None:
    accounts = parse_accounts("htpasswd", f"ann:{secret}\n".encode())
    assert fits(accounts, b"ann", password.encode())
    assert not fits(accounts, b"ann", b"wrong")


@pytest.mark.parametrize("secret", ["plain", "$y$j9T$x$y", "$apr1$", "*", "!", "{SHA}", "$2b$05$short", "x" * 500, ""])
def test_what_is_no_hash_fits_nothing(secret: str) -> None:
    accounts = parse_accounts("htpasswd", f"ann:{secret}\n".encode())
    for password in (secret.encode(), b"", b"ann", b"\0", b"x" * 5000):
        assert not fits(accounts, b"ann", password)


def test_bcrypt_looks_at_72_bytes() -> None:
    command = [find_peer("htpasswd"), "-nbBC", "4", "ann", "x" * 80]
    accounts = parse_accounts("htpasswd", subprocess.run(command, capture_output=True, check=True).stdout)
    assert fits(accounts, b"ann", b"x" * 80)
    assert not fits(accounts, b"ann", b"x" * 71)


def test_plain() -> None:
    accounts = parse_accounts("plain", b"# a comment\nann:se:cret\r\n\n:nobody\nbob\nann:second\n\xe4:\xe4\n")
    assert (fits(accounts, b"ann", b"se:cret"), fits(accounts, b"ann", b"second")) == (True, False)
    assert fits(accounts, b"\xe4", b"\xe4")
    assert not any(fits(accounts, user, b"nobody") for user in (b"", b"bob"))
    assert accounts.algorithms == ("SHA-256", "MD5")
    assert repr(accounts) == "<Accounts plain of 2>", "no password in a log"


def test_htdigest() -> None:
    """RFC 7616 section 3.9.1: Mufasa of http-auth@example.org, here by both algorithms."""
    md5 = "3d78807defe7de2157e2b0b6573a855f"
    sha = "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
    lines = f"Mufasa:{{}}:{md5}\nMufasa:{{}}:{sha.upper()}:aa\nx:{{}}:12\n"
    accounts = parse_accounts("htdigest", lines.replace("{}", "http-auth@example.org").encode())
    realm = b"http-auth@example.org"
    assert accounts.digest_secret(b"Mufasa", realm, "MD5") == md5
    assert accounts.digest_secret(b"Mufasa", realm, "SHA-256") == sha
    assert accounts.digest_secret(b"Mufasa", b"other", "MD5") is None
    assert accounts.digest_secret(b"x", realm, "MD5") is None
    assert fits(accounts, b"Mufasa", b"Circle of Life", realm)
    assert not fits(accounts, b"Mufasa", b"Circle of Death", realm)
    plain = parse_accounts("plain", b"Mufasa:Circle of Life\n")
    assert [plain.digest_secret(b"Mufasa", realm, name) for name in ("MD5", "SHA-256")] == [md5, sha]


def test_an_unknown_user_is_held_against_somebody() -> None:
    accounts = parse_accounts("htpasswd", b"ann:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n")
    assert accounts.decoy() == accounts.stored(b"ann", b"")
    assert parse_accounts("htpasswd", b"").decoy() == [""]


def test_groups() -> None:
    groups = parse_groups(b"# x: y\nadmins: ann bob\nusers: cid,dan, eve\nadmins: fay\nnone:\n")
    assert groups == {
        b"admins": {b"ann", b"bob", b"fay"}, b"users": {b"cid", b"dan", b"eve"}, b"none": frozenset(),
    }  # fmt: skip


def test_a_file_that_took_another_ones_time_and_size_is_read_again(tmp_path: Path) -> None:
    """As `rsync --inplace --times` and `cp -p` write it: a user who is removed is out."""
    path = tmp_path / "users"

    def write(data: bytes) -> os.stat_result:
        path.write_bytes(data)
        os.utime(path, (1000, 1000))
        return os.stat(path)

    before = write(b"ann:a")
    fresh, old = UserFile(str(path), bytes), UserFile(str(path), bytes, lambda: before.st_ctime + 60)
    assert fresh.load()[0] == old.load()[0] == b"ann:a"
    while write(b"bob:b").st_ctime_ns == before.st_ctime_ns:
        pass  # the kernel's clock for files has ticks
    assert fresh.load()[0] == old.load()[0] == b"bob:b"


def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"one")
    os.utime(path, (1000, 1000))
    parsed: list[bytes] = []

    def parse(data: bytes) -> bytes:
        parsed.append(data)
        return data

    now = 2000.0
    file = UserFile(str(path), parse, lambda: now)
    assert [file.load(), file.load(), parsed] == [(b"one", 1), (b"one", 1), [b"one"]]
    path.write_bytes(b"two")
    os.utime(path, (1999, 1999))
    # Just written: until its time is certain to tell, the file is read each time, but not parsed in vain.
    assert [file.load(), file.load(), parsed] == [(b"two", 2), (b"two", 2), [b"one", b"two"]]
    path.write_bytes(b"six")
    os.utime(path, (1999, 1999))
    assert file.load() == (b"six", 3)
    now = 2010.0
    assert file.load() == (b"six", 3)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.load()
    path.write_bytes(b"one")
    assert file.load() == (b"one", 4)
