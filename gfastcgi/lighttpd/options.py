"""The one table of options: parser, error messages, `gfastcgi -p` and docs/lighttpd.md all read it.

Contract: a directive or host option exists when it stands here; its default is the one of its attribute in `config`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gfastcgi.config import Extension, HostConfig, ServerConfig, Settings
from gfastcgi.lighttpd import access, kinds
from gfastcgi.lighttpd.caching import cache
from gfastcgi.lighttpd.flags import feature_flags
from gfastcgi.lighttpd.health import health_check
from gfastcgi.lighttpd.kinds import Kind
from gfastcgi.lighttpd.mounts import mounts
from gfastcgi.lighttpd.nodes import Array, Value

__all__ = ["DIRECTIVES", "HOST_OPTIONS", "Option", "default_of", "options_table"]


@dataclass(frozen=True, slots=True)
class Option:
    """One directive (`scope` "server" or "request") or host option ("host")."""

    name: str
    attributes: tuple[str, ...]
    kind: Kind
    doc: str
    scope: Literal["server", "request", "host"] = "request"
    is_alias: bool = False
    is_additive: bool = False
    """Several directives of one scope add up in `attributes`, in the order of the table."""


def _host(name: str, kind: Kind, doc: str, *, attribute: str = "", is_alias: bool = False) -> Option:
    return Option(name, (attribute or name.replace("-", "_"),), kind, doc, "host", is_alias)


def _server(name: str, attribute: str, kind: Kind, doc: str, *more: str) -> Option:
    return Option(name, (attribute, *more) if attribute else (), kind, doc, "server")


def _rules(name: str, attribute: str, kind: Kind, doc: str, *, is_alias: bool = False) -> Option:
    return Option(name, (attribute,), kind, doc, "request", is_alias, True)


_seconds = kinds.integer(0, label="a number of seconds")
_some_seconds = kinds.integer(1, label="a number of seconds, at least 1")
_count = kinds.integer(0)

HOST_OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        _host("host", kinds.host_name, "name or address of the backend; a unix socket when it begins with `/`"),
        _host("port", kinds.integer(1, 65535), "TCP port, 80 if absent; counts up with each proc that is spawned"),
        _host("socket", kinds.path, "path of a unix socket; spawned procs get `-0`, `-1`, ... behind it"),
        _host("bin-path", kinds.command, "command that is spawned; its words may be quoted"),
        _host("bin-environment", kinds.pairs, "variables for the spawned process"),
        _host("bin-copy-environment", kinds.strings, "names of the only variables that it inherits; absent: all"),
        _host("mode", kinds.choice("responder", "authorizer"), "the FastCGI role"),
        _host("docroot", kinds.path, "document root at the backend; of an authorizer: of what it authorizes"),
        _host("check-local", kinds.boolean, "ask only for files that exist beneath the document root; else 404"),
        _host("min-procs", kinds.integer(0, 1024), "least processes, 0: none before a request; absent: as `max-procs`"),
        _host("max-procs", kinds.integer(1, 1024), "most processes; one more is started when requests wait"),
        _host("max-load-per-proc", _count, "one more is started, too, when every process has more requests than this"),
        _host("listen-backlog", kinds.integer(1, 65535), "backlog of a spawned process's socket"),
        _host("broken-scriptfilename", kinds.boolean, "SCRIPT_FILENAME with PATH_INFO behind it, for PHP"),
        _host("fix-root-scriptname", kinds.boolean, 'PATH_INFO is the whole path for the extension "/"'),
        _host("strip-request-uri", kinds.text, "prefix that is cut from REQUEST_URI"),
        _host("disable-time", _seconds, "seconds before a backend that failed is tried again"),
        _host("idle-timeout", _seconds, "seconds after which an idle process is ended, down to `min-procs`"),
        _host("allow-x-send-file", kinds.boolean, 'old name of "x-sendfile"', attribute="x_sendfile", is_alias=True),
        _host("x-sendfile", kinds.boolean, "the backend may name a file to send instead of its answer"),
        _host("x-sendfile-docroot", kinds.paths, "trees that such a file has to lie in"),
        _host("kill-signal", kinds.integer(1, 64), "signal that ends a spawned process; SIGTERM and SIGKILL follow"),
        _host("tcp-fin-propagate", kinds.boolean, "end the request of a client that ended its side; absent: 1 s later"),
        _host("connect-timeout", _seconds, "seconds to connect; 0: no limit"),
        _host("write-timeout", _seconds, "seconds in which the backend takes nothing; 0: no limit"),
        _host("read-timeout", _seconds, "seconds in which the backend says nothing; 0: no limit"),
        _host(
            "decision-timeout",
            _some_seconds,
            "most seconds for the whole answer of an authorizer; absent: `connect-timeout` and `read-timeout` together",
        ),
        _host("upgrade", kinds.boolean, "WebSocket; accepted with a warning, not served yet"),
        _host("keep-alive", kinds.boolean, "keep connections; absent: where the capacity is known"),
        _host("max-connections", kinds.integer(1, 65535), "most connections at once to one proc"),
        _host("queue-timeout", _seconds, "seconds that a request waits for a free connection, then 503; 0: no limit"),
        _host("weight", kinds.integer(1, 1000), "share of the load"),
        _host("resolve", _some_seconds, "seconds after which a host name is looked up again"),
        _host("health-check", health_check, "a path that each proc is asked for; one that fails rests"),
        _host("require-status", kinds.boolean, "an authorizer's answer without a Status line denies"),
        _host("script", kinds.path, "SCRIPT_FILENAME of an authorizer, for PHP: the program, not the file asked for"),
        _host("mode-compat", kinds.choice("strict", "lighttpd"), "what an authorizer is sent; see docs/authorizers.md"),
        _host("independent", kinds.boolean, "an authorizer that is asked side by side with independent neighbours"),
        _host("cache", cache, "keep the decisions of an authorizer; see docs/decisions.md"),
        _host("stale-allow", _seconds, "seconds that a kept yes outlives its time while the authorizer is down"),
        _host("recheck", _seconds, "ask again every so many seconds while an answer is sent; 0: never"),
        _host("url", access.service_url, "an authorizer over HTTP (forward-auth) in the place of a FastCGI program"),
        _host("python", kinds.text, "an authorizer in Python, `package.module:name`, in its place"),
        _host("variables", access.variable_names, "what the fields of an allowing `url` become, beside the usual ones"),
        _host("login", access.login_url, "where a browser is sent that an authorizer does not know"),
        _host("preflight", kinds.choice("check", "allow"), "whether CORS preflights pass an authorizer unasked"),
        _host("x-accel-redirect", kinds.prefix_pairs, "folders for the URIs that the backend may name to be sent"),
    )
}


def _render_host(host: HostConfig) -> Array:
    """What of `host` differs from the defaults."""
    found: list[tuple[str | None, Value]] = []
    for option in HOST_OPTIONS.values():
        value = getattr(host, option.attributes[0])
        default = host.max_procs if option.name == "min-procs" else default_of(option)
        rendered = None if option.is_alias or value == default else option.kind.render(value)
        if rendered is not None:
            found.append((option.name, rendered))
    return kinds.array(found)


def _render_extensions(value: tuple[Extension, ...]) -> Array:
    return kinds.array(
        [
            (extension.key, kinds.array([(host.name or None, _render_host(host)) for host in extension.hosts]))
            for extension in value
        ]
    )


_extensions = Kind(
    'hosts by extension like ( ".php" => (( "socket" => "/run/php.sock" )) )',
    lambda value, context: context.make_extensions(value, context),
    _render_extensions,
)

DIRECTIVES: dict[str, Option] = {
    option.name: option
    for option in (
        _server("server.modules", "modules", kinds.strings, "names of modules; every directive works without them"),
        Option("server.document-root", ("document_root",), kinds.path, "folder of the site's files; required"),
        _server("server.port", "", kinds.integer(0, 65535), "port to listen on, 80 if absent; 0: any free one"),
        _server("server.bind", "", kinds.text, "address to listen on, IPv6 in brackets, or the path of a unix socket"),
        _server("server.socket-perms", "", kinds.octal, "mode of unix sockets that are listened on"),
        _server("server.listen-backlog", "listen_backlog", kinds.integer(1, 65535), "connections waiting for accept"),
        Option("server.name", ("server_name",), kinds.text, "SERVER_NAME; absent: the host that was asked for"),
        Option("server.tag", ("server_tag",), kinds.text, "value of the field Server; empty: no field"),
        _server("server.errorlog", "errorlog", kinds.log_path, "file of the error log; absent: stderr"),
        _server("server.pid-file", "pid_file", kinds.path, "file that holds the process id"),
        _server("server.username", "username", kinds.text, "user to become after the ports are bound"),
        _server("server.groupname", "groupname", kinds.text, "group to become"),
        _server("server.chroot", "chroot", kinds.path, "folder to make the root"),
        _server("server.upload-dirs", "upload_dirs", kinds.paths, "folders for bodies too big for memory"),
        _server(
            "server.max-connections", "max_connections", kinds.integer(1),
            "clients at once, as far as `server.max-fds` has room",
        ),
        _server("server.max-fds", "max_fds", _count, "open files at most; 0: as the system has it"),
        _server(
            "server.max-request-field-size", "max_field_size", kinds.integer(256, 65535),
            "most bytes of a field, and of the request target", "max_target_size",
        ),
        _server("server.http-parseopts", "url_normalize_2f", kinds.parse_options, "`url-path-2f-reject` or `-decode`"),
        _server("server.feature-flags", "graceful_timeout", feature_flags, "`server.graceful-shutdown-timeout`"),
        Option("server.max-request-size", ("max_request_size",), kinds.kibibytes, "KiB that a body may have; 0: any"),
        Option("server.max-keep-alive-requests", ("max_keep_alive_requests",), _count, "requests of one connection"),
        Option("server.max-keep-alive-idle", ("max_keep_alive_idle",), _seconds, "seconds between requests"),
        Option("server.max-read-idle", ("max_read_idle",), _some_seconds, "seconds in which a client sends nothing"),
        Option("server.max-write-idle", ("max_write_idle",), _some_seconds, "seconds in which a client takes nothing"),
        Option("server.stream-request-body", ("stream_request_body",), kinds.integer(0, 2), "0: spool bodies first"),
        Option("server.stream-response-body", ("stream_response_body",), kinds.integer(0, 2), "0: collect answers"),
        Option("server.follow-symlink", (), kinds.boolean, "links lead only inside the docroot, or into the next list"),
        Option("server.symlink-docroots", ("symlink_roots",), kinds.paths, "trees outside that links may lead into"),
        Option("index-file.names", ("index_file_names",), kinds.strings, "files that answer for a folder"),
        Option("mimetype.assign", ("mimetypes",), kinds.pairs, 'content types by suffix; "" is the default'),
        Option("static-file.etags", ("etags",), kinds.boolean, "send ETag with files"),
        Option("etag.use-inode", (), kinds.boolean, "accepted; an ETag has one form"),
        Option("etag.use-mtime", (), kinds.boolean, "accepted; an ETag has one form"),
        Option("etag.use-size", (), kinds.boolean, "accepted; an ETag has one form"),
        Option(
            "static-file.exclude-extensions", ("static_exclude_extensions",), kinds.strings,
            "suffixes that are never sent as files",
        ),
        _rules("url.rewrite-once", "rewrite", kinds.rules(), "rewrites the target; the first match is the last"),
        _rules("url.rewrite", "rewrite", kinds.rules(), "as `url.rewrite-once`", is_alias=True),
        _rules("url.rewrite-final", "rewrite", kinds.rules(), "as `url.rewrite-once`", is_alias=True),
        _rules("url.rewrite-repeat", "rewrite", kinds.rules(once=False), "begins anew after a match, up to 100 times"),
        _rules(
            "url.rewrite-if-not-file", "rewrite_if_not_file", kinds.rules(),
            "as `-once`, when the path is no file",
        ),
        _rules(
            "url.rewrite-repeat-if-not-file", "rewrite_if_not_file", kinds.rules(once=False),
            "as `-repeat`, when the path is no file",
        ),
        Option("url.redirect", ("redirect",), kinds.rules(), "answers with a redirection"),
        Option("url.redirect-code", ("redirect_code",), kinds.integer(300, 399), "status of the redirection"),
        Option("url.access-deny", ("access_deny",), kinds.strings, 'suffixes of paths that get 403; "" is all'),
        Option("url.access-allow", ("access_allow",), kinds.strings, "suffixes of the only paths that do not"),
        Option("auth.require", ("auth_require",), access.requirements, "who may see what; the first prefix holds"),
        Option(
            "auth.backend", ("auth_backend",), kinds.choice("plain", "htpasswd", "htdigest", ""),
            "kind of the file of users",
        ),
        Option("auth.backend.plain.userfile", ("auth_plain_userfile",), kinds.path, "lines `user:password`"),
        Option("auth.backend.plain.groupfile", ("auth_plain_groupfile",), kinds.path, "lines `group: user user`"),
        Option("auth.backend.htpasswd.userfile", ("auth_htpasswd_userfile",), kinds.path, "lines `user:hash`"),
        Option("auth.backend.htdigest.userfile", ("auth_htdigest_userfile",), kinds.path, "lines `user:realm:hash`"),
        Option(
            "auth.cache", ("auth_cache",), access.auth_cache,
            "seconds that a password once checked is remembered, while its file stays the same; () or 0: not at all",
        ),
        Option("alias.url", ("alias",), kinds.prefix_pairs, "folders for prefixes of the path"),
        Option("accesslog.filename", ("accesslog_filename",), kinds.log_path, "file of the access log; absent: stderr"),
        Option("accesslog.format", ("accesslog_format",), kinds.text, "form of its lines; `%L`: the request's id"),
        Option("fastcgi.server", ("extensions",), _extensions, "backends by extension"),
        Option("wsgi.server", ("wsgi_server",), mounts, "WSGI applications in our own process; see docs/client.md"),
        Option("fastcgi.map-extensions", ("map_extensions",), kinds.pairs, "extensions that share another's backends"),
        Option(
            "fastcgi.balance", ("balance",),
            kinds.balance("fair", "least-connection", "round-robin", "hash", "sticky", "p2c", "ewma"),
            "which backend gets a request; see docs/balancing.md",
        ),
        Option(
            "fastcgi.authorizers", ("authorizers",), kinds.choice("all", "any"),
            "how many of a path's authorizers have to allow",
        ),
        Option(
            "fastcgi.identity-fields", ("identity_fields",), access.field_names,
            "fields that no client may send, beside those that name an identity on every site",
        ),
        Option(
            "fastcgi.allow-fields", ("allow_fields",), access.field_names,
            "fields of clients that may pass although they name an identity or have an underscore",
        ),
        _server("fastcgi.audit-log", "audit_log", kinds.log_path, "file of the decisions of authorizers, a JSON each"),
        _server("fastcgi.cache-redis", "cache_redis", access.redis_url, "the Redis by which gateways share decisions"),
        _server("fastcgi.cache-secret", "cache_secret", kinds.text, "what signs them, at least 32 characters"),
        _server("server.control-socket", "control_socket", kinds.path, "unix socket for commands to a running gateway"),
        Option(
            "fastcgi.debug", ("debug",), kinds.integer(0, 65535),
            "1: log each choice of a backend, with all of them; 2: connections, 3: states, too",
        ),
        _server(
            "fastcgi.proxy-status", "proxy_status", kinds.boolean,
            "failures tell their cause in the field Proxy-Status (RFC 9209)",
        ),
        Option("status.statistics-url", ("statistics_url",), kinds.url_path, "path that answers with the counters"),
    )
}  # fmt: skip

_HOLDERS: dict[str, Any] = {"server": ServerConfig(), "request": Settings(), "host": HostConfig()}


def default_of(option: Option) -> Any:
    """The value of the option's attribute in an empty configuration; None where it has no attribute."""
    return getattr(_HOLDERS[option.scope], option.attributes[0]) if option.attributes else None


def _default_text(option: Option) -> str:
    value = default_of(option)
    if value is None or (value in ("", (), 0) and option.name in ("host", "port", "socket")):
        return ""
    if option.name == "min-procs":
        return "max-procs"
    rendered: Value | None = option.kind.render(value)
    if isinstance(rendered, Array) or rendered in ("", None):
        return ""
    return f"`{rendered}`"


def _rows(options: dict[str, Option]) -> Iterator[str]:
    yield "| name | takes | default | meaning |"
    yield "|---|---|---|---|"
    for option in options.values():
        yield f"| `{option.name}` | {option.kind.label} | {_default_text(option)} | {option.doc} |"


def options_table() -> str:
    """The tables of docs/lighttpd.md, in Markdown; a test holds the page against it."""
    lines = ["### Directives", "", *_rows(DIRECTIVES), "", "### Options of a `fastcgi.server` host", ""]
    return "\n".join([*lines, *_rows(HOST_OPTIONS), ""])
