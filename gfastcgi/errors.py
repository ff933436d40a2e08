"""Every error that gfastcgi raises, as one tree; the gateway turns it into HTTP in one place.

GfastcgiError
|- ProtocolError                 a message broke its protocol
|  |- LocalProtocolError         we asked for an illegal move: our bug
|  |- RemoteProtocolError        the peer's fault
|     |- BadRequest 400  TargetTooLong 414  FieldsTooLarge 431  ContentTooLarge 413  LengthRequired 411
|     |- RequestTimeout 408  NotImplementedByUs 501  VersionNotSupported 505  ExpectationFailed 417
|     |- RangeNotSatisfiable 416
|     |- BadRecord 502 (StrayRecord)   BadCGIResponse 502
|- BackendError                  a backend could not serve
|  |- ConnectError 503  ConnectTimeout 504  BackendClosed 502  BackendTimeout 504 (AnswerStalled)
|  |- Overloaded 503  NoBackendAvailable 503  UnknownRole 502  UnexpectedStatus 502
|  |- ApplicationError 500       a Python application or authorizer in our own process
|- StreamError                   a byte stream ended or stalled (renamed once, in net/)
|  |- StreamClosed  StreamTimeout  ClientClosed
|- ConfigError                   ConfigSyntaxError  UnknownOption  InvalidValue; file and line of each
|- SpawnError  PluginError
|- of their own rooms           ListenError  LookupFailed  SharingError  ControlError  MissingExtra  BadRecording

`cause` is a word from the closed set CAUSES: the log field, the metric label and the RFC 9209 Proxy-Status value.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

__all__ = [
    "CAUSES",
    "SHORTAGES",
    "AnswerStalled",
    "ApplicationError",
    "BackendClosed",
    "BackendError",
    "BackendTimeout",
    "BadCGIResponse",
    "BadRecord",
    "BadRequest",
    "ClientClosed",
    "ConfigError",
    "ConfigErrors",
    "ConfigSyntaxError",
    "ConnectError",
    "ConnectTimeout",
    "ContentTooLarge",
    "ExpectationFailed",
    "FieldsTooLarge",
    "GfastcgiError",
    "InvalidValue",
    "LengthRequired",
    "LocalProtocolError",
    "NoBackendAvailable",
    "NotImplementedByUs",
    "Overloaded",
    "PluginError",
    "ProtocolError",
    "RangeNotSatisfiable",
    "RemoteProtocolError",
    "RequestTimeout",
    "SpawnError",
    "StrayRecord",
    "StreamClosed",
    "StreamError",
    "StreamTimeout",
    "TargetTooLong",
    "UnexpectedStatus",
    "UnknownOption",
    "UnknownRole",
    "VersionNotSupported",
]

CAUSES = frozenset({
    "bad_request", "target_too_long", "fields_too_large", "content_too_large", "length_required",
    "request_timeout", "not_implemented", "version_not_supported", "expectation_failed",
    "bad_record", "bad_cgi_response", "header_too_big", "eof_before_headers", "eof_in_body",
    "connect_refused", "connect_timeout", "connect_failed", "read_timeout", "write_timeout", "queue_timeout",
    "overloaded", "cant_multiplex", "unknown_role", "app_status", "no_backend", "spawn_failed", "script_unknown",
    "client_closed", "too_many_redirects", "too_many_rewrites", "internal",
})  # fmt: skip


SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""The `OSError.errno` of what is short on our side: it says nothing of a backend or a file. The gateway answers 503."""


class GfastcgiError(Exception):
    """The root: `except GfastcgiError` catches whatever the package raises on purpose."""


class ProtocolError(GfastcgiError):
    """A message broke its protocol. `status_hint` is the HTTP status that fits it, `cause` its word."""

    status_hint = 500
    cause = "internal"

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        if cause is not None:
            self.cause = cause


class LocalProtocolError(ProtocolError):
    """We, or what we are configured with, asked for a move that the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""

    status_hint = 400
    cause = "bad_request"


class BadRequest(RemoteProtocolError):
    """The request cannot be understood (RFC 9110 section 15.5.1)."""


class LengthRequired(RemoteProtocolError):
    """A body without a length (RFC 9110 section 15.5.12)."""

    status_hint = 411
    cause = "length_required"


class TargetTooLong(RemoteProtocolError):
    """The request target exceeds its limit (RFC 9110 section 15.5.15)."""

    status_hint = 414
    cause = "target_too_long"


class FieldsTooLarge(RemoteProtocolError):
    """The fields exceed their limits in size or number (RFC 6585 section 5)."""

    status_hint = 431
    cause = "fields_too_large"


class ContentTooLarge(RemoteProtocolError):
    """The body exceeds `server.max-request-size` (RFC 9110 section 15.5.14)."""

    status_hint = 413
    cause = "content_too_large"


class RequestTimeout(RemoteProtocolError):
    """The request did not arrive in time (RFC 9110 section 15.5.9)."""

    status_hint = 408
    cause = "request_timeout"


class RangeNotSatisfiable(RemoteProtocolError):
    """The Range field asks for nothing that the representation has (RFC 9110 section 15.5.17)."""

    status_hint = 416


class ExpectationFailed(RemoteProtocolError):
    """An Expect field other than 100-continue (RFC 9110 section 10.1.1)."""

    status_hint = 417
    cause = "expectation_failed"


class NotImplementedByUs(RemoteProtocolError):
    """A method or transfer coding that we do not know (RFC 9110 section 15.6.2)."""

    status_hint = 501
    cause = "not_implemented"


class VersionNotSupported(RemoteProtocolError):
    """An HTTP version other than 1.0 and 1.1 (RFC 9110 section 15.6.6)."""

    status_hint = 505
    cause = "version_not_supported"


class BadRecord(RemoteProtocolError):
    """A FastCGI record that section 3.3 or 5 of its specification does not allow."""

    status_hint = 502
    cause = "bad_record"


class StrayRecord(BadRecord):
    """A FastCGI record for a request that is not open: behind the end of an earlier answer, perhaps."""


class BadCGIResponse(RemoteProtocolError):
    """A CGI response head that is missing, broken or too big (RFC 3875 section 6)."""

    status_hint = 502
    cause = "bad_cgi_response"


class BackendError(GfastcgiError):
    """A backend could not serve the request. `status_hint` is the HTTP status, `cause` its word."""

    status_hint = 502
    cause = "internal"

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        if cause is not None:
            self.cause = cause


class ConnectError(BackendError):
    """The backend refused the connection, or it could not be made."""

    status_hint = 503
    cause = "connect_refused"


class ConnectTimeout(BackendError):
    """The connection was not made within `"connect-timeout"`."""

    status_hint = 504
    cause = "connect_timeout"


class BackendClosed(BackendError):
    """The backend closed the connection before its answer was whole."""

    cause = "eof_before_headers"


class BackendTimeout(BackendError):
    """The backend stayed silent past `"read-timeout"` or took nothing for `"write-timeout"`."""

    status_hint = 504
    cause = "read_timeout"


class AnswerStalled(BackendTimeout):
    """The backend began its answer, and then fell silent or took too long: it is up, so no earlier yes may stand in."""


class Overloaded(BackendError):
    """Every backend is busy: END_REQUEST said OVERLOADED, or `"queue-timeout"` passed."""

    status_hint = 503
    cause = "overloaded"


class NoBackendAvailable(BackendError):
    """No backend of the extension is running."""

    status_hint = 503
    cause = "no_backend"


class UnknownRole(BackendError):
    """END_REQUEST said UNKNOWN_ROLE: the backend does not play the role that it is configured for."""

    cause = "unknown_role"


class UnexpectedStatus(BackendError):
    """END_REQUEST carried an app_status or protocol_status that spoils the answer."""

    cause = "app_status"


class ApplicationError(BackendError):
    """A WSGI application or an authorizer in the gateway's own process raised something, or gave no sound answer."""

    status_hint = 500


class StreamError(GfastcgiError):
    """A byte stream failed. OSError and gevent's Timeout get this name where bytes are moved, in net/ above all."""


class StreamClosed(StreamError):
    """The peer closed or reset the stream."""


class StreamTimeout(StreamError):
    """The peer let the deadline pass."""


class ClientClosed(StreamError):
    """The client left before its answer: what is done for it ends."""


class ConfigError(GfastcgiError):
    """A fault in the configuration, with the file and line (from 1; 0: none) where it stands."""

    def __init__(self, message: str, filename: str = "", lineno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.filename = filename
        self.lineno = lineno

    def __str__(self) -> str:
        place = f"{self.filename}:{self.lineno}: " if self.lineno else f"{self.filename}: " if self.filename else ""
        return place + self.message


class ConfigSyntaxError(ConfigError):
    """The text breaks the grammar of lighttpd.conf."""


class UnknownOption(ConfigError):
    """A name that no option has; the message names the nearest one known."""


class InvalidValue(ConfigError):
    """A known option with a value that it does not take."""


class ConfigErrors(ConfigError):
    """All the faults of one configuration, in file order: `errors` (never empty), and the `warnings` beside them."""

    def __init__(self, errors: list[ConfigError], warnings: Sequence[object] = ()) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors
        self.warnings = warnings


class SpawnError(GfastcgiError):
    """A process could not be started; the message names the command and the reason."""

    cause = "spawn_failed"


class PluginError(GfastcgiError):
    """A named plugin is not installed, or is not what it has to be."""
