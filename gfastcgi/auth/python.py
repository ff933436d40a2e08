"""An authorizer in Python: a function of a `webob.Request`, asked in the request's own greenlet.

Contract: `True`, a user's name or an `Allow` lets through; `False`, `None` or "" is 403; a `Deny`, or a
`webob.Response`, returned or raised, is the denial. Anything else is 500, and so is any exception, whose traceback is
in the log; past its time 504; and 400 where it fails over bytes of the client's that are no text.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from os.path import abspath, dirname
from time import monotonic
from types import TracebackType
from typing import Any, overload
from urllib.parse import unquote_to_bytes

import gevent
import webob
from webob.exc import WSGIHTTPException

from gfastcgi.auth.answers import VARIABLES_ABOUT_THE_FILE, decision_of, denial, passed_on, variable_name
from gfastcgi.auth.base import Allow, Decision, Deny, Question
from gfastcgi.auth.gate import QuestionEnded
from gfastcgi.errors import AnswerStalled, ApplicationError, BackendTimeout, ClientClosed, InvalidValue
from gfastcgi.pages import error_page
from gfastcgi.request import Request
from gfastcgi.server.wsgi import ErrorStream

__all__ = ["DEFAULT_TIME_LIMIT", "Check", "PythonAuthorizer", "authorizer", "folder_of", "load"]

log = logging.getLogger("gfastcgi")

Check = Callable[[webob.Request], Any]

DEFAULT_TIME_LIMIT = 30.0

_NOT_ASKED_WITH = [name.decode() for name in VARIABLES_ABOUT_THE_FILE]


class PythonAuthorizer:
    """Asks `function`; called itself, it is that function. `time_limit` is seconds, 0: none.

    The limit ends what waits by gevent; nothing ends a function that computes, but its answer comes too late to count.
    """

    transport = "python"

    def __init__(self, function: Check, *, time_limit: float = DEFAULT_TIME_LIMIT, name: str = "") -> None:
        """`name` is what the configuration calls it, "module:name"."""
        self.function = function
        self.time_limit = time_limit
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self._has_warned = False
        self._called = name or f"{getattr(function, '__module__', '')}:{self.__name__}"

    def __repr__(self) -> str:
        return f"<PythonAuthorizer {self.__name__}>"

    def __call__(self, request: webob.Request) -> Any:
        return self.function(request)

    def question(self, request: Request, root: str) -> Question:
        """Which function `check` would call; it is given the whole request."""
        return Question((self._called,))

    def check(self, request: Request, root: str) -> Decision:
        """Asks once. Raises `BackendTimeout`; `ApplicationError`, `BadCGIResponse` when there is no sound answer."""
        asked = request.webob()
        for name in _NOT_ASKED_WITH:
            asked.environ.pop(name, None)
        errors = asked.environ["wsgi.errors"] = ErrorStream(partial(_tell, request))
        late = BackendTimeout
        started = monotonic()
        timeout = gevent.Timeout.start_new(self.time_limit or None)
        try:
            answer = self._call(asked)
            if isinstance(answer, Deny) and isinstance(answer.response, webob.Response):
                answer = answer.response
            if isinstance(answer, webob.Response):
                late = AnswerStalled
                if isinstance(answer, WSGIHTTPException):
                    answer = asked.get_response(answer)
                _ = answer.body  # it may be made as it is read: now, while there is time
        except gevent.Timeout as error:
            if error is not timeout:
                raise self._failed(request, error) from error
            raise late(f"the authorizer {self._called} took more than {self.time_limit:g} s") from None
        except (ClientClosed, QuestionEnded):
            raise
        except (Exception, SystemExit, gevent.GreenletExit) as error:
            if isinstance(error, UnicodeDecodeError) and not _is_text(request):
                return Deny(error_page(400, request_id=request.id))
            # By a name of its own: what it raises must not pass for an error of the gateway's, which says otherwise.
            raise self._failed(request, error) from error
        finally:
            timeout.close()
            errors.flush()
        if self.time_limit and monotonic() - started > self.time_limit:
            # It computed all the while, or took the time-out for an error of its own.
            raise late(f"the authorizer {self._called} took more than {self.time_limit:g} s")
        try:
            return self._decision(answer, request)
        except (TypeError, ValueError) as error:
            raise ApplicationError(f"the authorizer {self._called} gave no answer: {error}") from error

    def _call(self, asked: webob.Request) -> Any:
        """What the function answers; an exception of `webob.exc` is an answer, too."""
        try:
            answer = self.function(asked)
        except WSGIHTTPException as error:
            answer = error
        if isinstance(answer, webob.Response) and answer.status_int == 200 and not self._has_warned:
            # Of a FastCGI program it is the yes. A page to log in may have 200, too: one word of it is enough.
            self._has_warned = True
            log.warning(
                "the authorizer %s answers with a webob.Response of status 200, which denies: True or an Allow lets in",
                self._called,
            )
        return answer

    def _failed(self, request: Request, error: BaseException) -> ApplicationError:
        """`error`, which the function raised, as the gateway's; told here, once, however many ask the same."""
        summary, own = _summary(error), (type(error), error, _own_frames(error))
        log.error("request %s: the authorizer %s raised %s", request.id, self._called, summary, exc_info=own)
        return ApplicationError(f"the authorizer {self._called} raised {summary}")

    def _decision(self, answer: Any, request: Request) -> Decision:
        found = decision_of(answer, lambda: error_page(403, request_id=request.id))
        if isinstance(found, Allow):
            variables = {
                variable_name(name.decode("latin-1"), self._called): _value(data)
                for name, data in found.variables.items()
            }
            fields = tuple(passed_on(_fields(found.response_headers)))
            return Allow(variables, fields, found.max_age, found.vary)
        response = found.response if isinstance(found, Deny) else found
        if response.status_int < 200:
            raise TypeError(f"{response.status} ends nothing")
        _check(response.status)
        reason = response.status.partition(" ")[2]
        return Deny(denial(response.status_int, reason, _fields(response.headerlist), response.body))


@overload
def authorizer(function: Check, /) -> PythonAuthorizer: ...
@overload
def authorizer(*, time_limit: float) -> Callable[[Check], PythonAuthorizer]: ...
def authorizer(function: Check | None = None, /, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Any:
    """Makes an authorizer of a function: `@authorizer`, or `@authorizer(time_limit=5)` with its limit in seconds."""
    if function is None:
        return lambda function: PythonAuthorizer(function, time_limit=time_limit)
    return PythonAuthorizer(function, time_limit=time_limit)


def folder_of(filename: str) -> str:
    """The folder of a configuration file, wherever that was named from; "" for a configuration without a file."""
    return dirname(abspath(filename)) if filename else ""


def load(name: str, folder: str = "", *, option: str = '"python"') -> Callable[..., Any]:
    """What `package.module:name` names, looked for beside Python's own places in `folder`.

    Raises `InvalidValue`, which begins with `option`, also for whatever the module raises as it is imported.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise InvalidValue(f'{option} takes "package.module:name", not "{name}"')
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise InvalidValue(f'{option} => "{name}": {type(error).__name__}: {error}') from error
    if not callable(found):
        raise InvalidValue(f'{option} => "{name}" is no function, but {found!r}')
    return found  # type: ignore[no-any-return]


def _value(data: bytes) -> bytes:
    _check(data.decode("latin-1"))
    return data


def _fields(fields: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Fields for the client, whatever of a request stands in them (CWE-113)."""
    found = tuple((str(name), str(value)) for name, value in fields)
    for name, value in found:
        _check(name + value)
    return found


def _tell(request: Request, data: bytes) -> None:
    for line in data.decode().splitlines():
        log.error("request %s: wsgi.errors: %s", request.id, line)


def _summary(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}".removesuffix(": ")
    except Exception:  # of its own __str__
        return name


def _own_frames(error: BaseException) -> TracebackType | None:
    """The traceback of `error` from the function on, without those who called it."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals is globals():
        frames = frames.tb_next
    return frames


def _is_text(request: Request) -> bool:
    """Whether path and query are UTF-8: WebOb reads them so, and fails where a client sent something else."""
    try:
        request.path.encode()
        unquote_to_bytes(request.query).decode()
    except UnicodeError:
        return False
    return True


def _check(text: str) -> None:
    if any(char in text for char in "\r\n\0"):
        raise TypeError(f"a line end or NUL in {text[:200]!r}")
