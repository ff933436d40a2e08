"""Removes each guard of the decision code in turn and runs the tests: at least one has to notice.

    .venv/bin/python contrib/mutation.py                # all guards; exit status 1 when one is missed
    .venv/bin/python contrib/mutation.py chain grants   # those whose file's name has one of the words

Plan: `guards.py`, `wire_guards.py` and `stream_guards.py` are literal lists of (file, text, what stands there without
the guard, test files). A copy of the checkout gets one of them at a time; pytest stops at the first test that fails,
and that one is printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guards import GUARDS, Guard
from stream_guards import STREAM_GUARDS
from wire_guards import WIRE_GUARDS

ROOT = Path(__file__).parents[1]


def copy_checkout(folder: Path) -> None:
    """The files that git knows or would know, as they are now."""
    command = [
        "git",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "gfastcgi",
        "tests",
        "contrib",
        "docs",
    ]
    names = subprocess.run([*command, "*.md", "pyproject.toml"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def catch(guard: Guard, folder: Path) -> str:
    """The first test that fails without `guard`; "" when none does."""
    path = folder / "gfastcgi" / guard.file
    source = path.read_text()
    assert source.count(guard.text) == 1, f"{guard.file}: {guard.text!r} stands there {source.count(guard.text)} times"
    tests = [f"tests/{name}" for name in guard.tests.split() if (folder / "tests" / name).exists()]
    path.write_text(source.replace(guard.text, guard.without))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    finally:
        path.write_text(source)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    return found[1] if found else "" if done.returncode == 0 else "tests cannot even be read"


def main(words: list[str]) -> int:
    """Tries every guard whose file has one of `words` in its name; the value is the exit status."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mutation") as name:
        copy_checkout(Path(name))
        for guard in [*GUARDS, *WIRE_GUARDS, *STREAM_GUARDS]:
            if words and not any(word in guard.file for word in words):
                continue
            started = time.monotonic()
            caught = catch(guard, Path(name))
            missed += not caught
            line = " ".join(guard.text.split())
            print(
                f"{guard.file}: {line[:90]}\n    {caught or 'MISSED'}  {time.monotonic() - started:.0f} s", flush=True
            )
    print(f"{missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of the names of the files whose guards are removed")
    sys.exit(main(parser.parse_args().words))
