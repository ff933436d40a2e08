"""`gfastcgi replay`: what `gfastcgi tap --save` kept, sent to a FastCGI program once more, answers compared.

Contract: exit status 0 all answers are as they were, 1 one is not, 2 arguments, or a file, that make no sense, 3 nobody
is there, 4 the connection took too long.
"""

from __future__ import annotations

import argparse
import sys

from gfastcgi.cli.arguments import seconds
from gfastcgi.cli.console import paint, print_fault
from gfastcgi.cli.question import status_of
from gfastcgi.cli.site import parse_address
from gfastcgi.errors import BackendError, InvalidValue
from gfastcgi.log import escape
from gfastcgi.net.streams import Stream
from gfastcgi.secrecy import without_secrets
from gfastcgi.tap.recording import BadRecording, read_recording
from gfastcgi.tap.relay import dial
from gfastcgi.tap.replay import Replay

__all__ = ["parser", "run"]

_EPILOG = """examples:
  gfastcgi replay day.tap --to unix:/run/php/php-fpm.sock
  gfastcgi replay day.tap --to tcp://127.0.0.1:9002 --ignore Set-Cookie --ignore X-Request-Id

Requests follow each other as they did when they were saved. An answer is compared by its fields, the size and the
content of its body, STDERR, and how it ended; the field Date is never compared.

exit status: 0 all answers are as they were; 1 one is not; 2 the arguments, or the file, make no sense; 3 nobody is
there; 4 connecting took too long"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi replay`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi replay",
        description="Send what gfastcgi tap saved to a FastCGI program once more, and compare its answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("filename", metavar="FILE", help="what gfastcgi tap --save wrote; - is the standard input")
    add("--to", required=True, metavar="ADDRESS", help="the FastCGI program: unix:PATH or tcp://HOST:PORT")
    add("--ignore", metavar="FIELD", action="append", default=[], help="do not compare this field; may be repeated")
    add("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for each answer (default 60)")
    add("-q", action="store_true", dest="is_quiet", help="tell only of answers that differ")
    return parser


def run(options: argparse.Namespace) -> int:
    """Sends, compares, tells. Raises `InvalidValue`."""
    target = parse_address(options.to, "--to")

    def connect() -> Stream:
        stream = dial(target)
        stream.write_timeout = options.timeout
        return stream

    replay = Replay(connect, seconds=options.timeout, ignored=["date", *options.ignore])
    same = differ = 0
    try:
        with sys.stdin if options.filename == "-" else open(options.filename, encoding="ascii") as file:
            for name, told in replay.run(read_recording(file)):
                same, differ = same + (not told), differ + bool(told)
                if told or not options.is_quiet:
                    _tell(name, told)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{options.filename}: {getattr(error, 'strerror', None) or error}") from error
    except BadRecording as error:
        raise InvalidValue(f"{options.filename}: {error}") from error
    except BackendError as error:
        print_fault(f"{error} ({error.cause})")
        return status_of(error)
    print(f"{same + differ} answers: {same} as they were, {differ} not")
    return 1 if differ else 0


def _tell(name: str, differences: list[str]) -> None:
    word = paint("differs", "red", sys.stdout) if differences else paint("same   ", "green", sys.stdout)
    shown = without_secrets("", name)
    if differences:
        shown += f": {'; '.join(differences)}"
    print(f"{word}  {escape(shown)}", flush=True)
