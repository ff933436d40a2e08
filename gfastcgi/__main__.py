"""`python -m gfastcgi` and the command `gfastcgi`: patches the standard library first thing, then reads its arguments.

Only the command line patches, so that plugins which block on the standard library co-operate; the library never does.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command of `sys.argv`; the value is the exit status."""
    from gevent import monkey

    monkey.patch_all()

    from gfastcgi.cli.command import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
