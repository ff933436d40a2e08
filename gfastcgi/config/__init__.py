"""What gfastcgi is told to do, as frozen dataclasses without I/O.

Contract: both the file language (`gfastcgi.lighttpd`) and Python code make a `Config`; `assemble` builds live
objects from it. Defaults are lighttpd's unless a comment says otherwise; every value is checked by who makes it, and
what would look like a gate and be none by `assemble`, too (`soundness`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gfastcgi.config.paths import is_beneath

__all__ = [
    "AUTHORIZER_READ_TIMEOUT",
    "NO_CREDENTIALS",
    "Address",
    "Block",
    "CacheConfig",
    "Captures",
    "Condition",
    "Config",
    "Extension",
    "HealthCheck",
    "HostConfig",
    "Requirement",
    "RewriteRule",
    "ServerConfig",
    "Settings",
    "WSGIMount",
    "Where",
]

Mode = Literal["responder", "authorizer"]
Operator = Literal["==", "!=", "=~", "!~", "=^", "=$"]

DEFAULT_ACCESSLOG_FORMAT = '%h %V %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"'


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a value in its file; `lineno` counts from 1, 0 means that no file named it."""

    filename: str = ""
    lineno: int = 0

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno}" if self.lineno else self.filename or "(no file)"


NO_CREDENTIALS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "content-length",
    "content-type", "date", "dnt", "expect", "forwarded", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "origin", "pragma", "priority",
    "proxy-connection", "range", "referer", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
    "te", "trailer", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "via",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-requested-with",
})  # fmt: skip
"""Fields that say nothing of who sends them: a key of these alone would let everybody in behind the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """How long the decisions of an authorizer are kept, and for whom. Times are seconds.

    `key` are the inputs that a decision depends on, each with its name or "": ("cookie", "SID"), ("path", "").
    """

    key: tuple[tuple[str, str], ...]
    ttl: int = 60
    negative_ttl: int = 0
    grant_ttl: int = 3600
    """The longest that a grant lasts."""
    size: int = 10_000
    """Decisions kept at once; the one that was not used for the longest time goes first."""

    @property
    def has_credential(self) -> bool:
        """True when the key tells clients apart: without that, one client's yes would be everybody's."""
        return any(kind == "cookie" or (kind == "header" and name not in NO_CREDENTIALS) for kind, name in self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """`"health-check"`: the path that is asked for, seconds between two checks and for one, and how many decide."""

    path: str
    interval: int = 5
    timeout: int = 3
    rise: int = 2
    fall: int = 3


AUTHORIZER_READ_TIMEOUT = 30
"""Seconds that an authorizer may stay silent where `"read-timeout"` is absent or 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostConfig:
    """One host entry of `fastcgi.server`. Times are seconds; 0 is "no limit" where lighttpd has it so.

    Two equal entries are two hosts, as in lighttpd: compared by identity.
    """

    name: str = ""
    host: str = ""
    port: int = 0
    socket: str = ""
    bin_path: str = ""
    bin_environment: tuple[tuple[str, str], ...] = ()
    bin_copy_environment: tuple[str, ...] | None = None
    mode: Mode = "responder"
    docroot: str = ""
    check_local: bool = True
    min_procs: int = 4
    max_procs: int = 4
    max_load_per_proc: int = 1
    listen_backlog: int = 4096
    broken_scriptfilename: bool = False
    fix_root_scriptname: bool = False
    strip_request_uri: str = ""
    disable_time: float = 1
    idle_timeout: int = 60
    x_sendfile: bool = False
    x_sendfile_docroot: tuple[str, ...] = ()
    kill_signal: int = 15
    tcp_fin_propagate: bool | None = None
    connect_timeout: float = 8
    write_timeout: float = 0
    read_timeout: float = 0
    upgrade: bool = False
    # Options of ours (lighttpd ignores them). None: decided by what is known of the backend.
    keep_alive: bool | None = None
    max_connections: int | None = None
    queue_timeout: float = 10
    weight: int = 1
    resolve: int = 30
    health_check: HealthCheck | None = None
    decision_timeout: float | None = None
    """`decision_seconds` tells what holds where it is absent."""
    require_status: bool = False
    script: str = ""
    mode_compat: Literal["strict", "lighttpd"] = "strict"
    independent: bool = False
    cache: CacheConfig | None = None
    stale_allow: int = 0
    recheck: int = 0
    url: str = ""
    python: str | Callable[[Any], Any] = ""
    """`package.module:name`, or the callable itself."""
    variables: tuple[tuple[str, str], ...] = ()
    login: str = ""
    preflight: Literal["check", "allow"] = "check"
    x_accel_redirect: tuple[tuple[str, str], ...] = ()
    where: Where = Where()

    @property
    def decision_seconds(self) -> float:
        """The most that the whole answer of an authorizer takes: one that drips has no more time than a silent one."""
        return self.decision_timeout or self.connect_timeout + (self.read_timeout or AUTHORIZER_READ_TIMEOUT)


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """One key of `fastcgi.server`: a prefix when it starts with "/", else a suffix of the path."""

    key: str
    hosts: tuple[HostConfig, ...]
    where: Where = Where()

    @property
    def is_prefix(self) -> bool:
        """Whether the key stands for what paths begin with, and not for what they end with."""
        return self.key.startswith("/")


@dataclass(frozen=True, slots=True, eq=False)
class WSGIMount:
    """One key of `wsgi.server`: the WSGI application `app`, or where it is (`package.module:name`), beneath `key`."""

    key: str
    app: str | Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
    where: Where = Where()

    def covers(self, path: str) -> bool:
        """Whether `path` is the key's, or beneath it."""
        return is_beneath(path, self.key)


@dataclass(frozen=True, slots=True)
class Condition:
    """`$HTTP["host"] =~ "..."`: `variable` is what stands between `$` and the operator."""

    variable: str
    operator: Operator
    operand: str
    where: Where = Where()


Captures = Mapping[Condition, tuple[str, ...]]
"""What `=~` conditions captured for one request, as far as rewrite rules refer to it: %0 to %9 of each."""


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """One rule of `url.rewrite*` or `url.redirect`: a regular expression and what to make of a match.

    `condition` is the `=~` condition whose captures `%0` to `%9` stand for; None: they are empty.
    """

    pattern: str
    replacement: str
    once: bool = True
    condition: Condition | None = None
    where: Where = Where()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One key of `auth.require`: who may see what lies under `prefix`. Any of the rules is enough.

    `hosts` are addresses and networks from which every known user may; `algorithms` are those of the digest scheme.
    """

    prefix: str
    method: Literal["basic", "digest"]
    realm: str
    any_user: bool = False
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    where: Where = field(default=Where(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """What holds for one request: the directives that conditionals may change. Sizes are bytes, times seconds."""

    document_root: str = ""
    server_name: str = ""
    server_tag: str | None = None
    index_file_names: tuple[str, ...] = ()
    mimetypes: tuple[tuple[str, str], ...] = ()
    etags: bool = True
    static_exclude_extensions: tuple[str, ...] = ()
    symlink_roots: tuple[str, ...] = ()
    access_deny: tuple[str, ...] = ()
    access_allow: tuple[str, ...] = ()
    alias: tuple[tuple[str, str], ...] = ()
    rewrite: tuple[RewriteRule, ...] = ()
    rewrite_if_not_file: tuple[RewriteRule, ...] = ()
    redirect: tuple[RewriteRule, ...] = ()
    redirect_code: int = 301
    extensions: tuple[Extension, ...] = ()
    map_extensions: tuple[tuple[str, str], ...] = ()
    wsgi_server: tuple[WSGIMount, ...] = ()
    balance: str = "least-connection"
    authorizers: Literal["all", "any"] = "all"
    identity_fields: tuple[str, ...] = ()
    allow_fields: tuple[str, ...] = ()
    debug: int = 0
    statistics_url: str = ""
    max_request_size: int = 0
    stream_request_body: int = 0
    stream_response_body: int = 1
    max_keep_alive_requests: int = 1000
    max_keep_alive_idle: int = 5
    max_read_idle: int = 60
    max_write_idle: int = 360
    auth_require: tuple[Requirement, ...] = ()
    auth_backend: Literal["", "plain", "htpasswd", "htdigest"] = ""
    auth_plain_userfile: str = ""
    auth_plain_groupfile: str = ""
    auth_htpasswd_userfile: str = ""
    auth_htdigest_userfile: str = ""
    auth_cache: int = 600
    accesslog_filename: str = ""
    accesslog_format: str = DEFAULT_ACCESSLOG_FORMAT


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Overrides of `Settings` attributes that hold when every condition has the truth beside it.

    Nested conditionals and `else` chains come flattened: the parents' and the earlier branches' conditions stand first.
    """

    conditions: tuple[tuple[Condition, bool], ...]
    overrides: Mapping[str, Any]
    where: Where = Where()


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: `path` for a unix socket, else `host` (IPv6 without brackets) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int | None = None

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What holds for the whole process. `max_fds` 0: left as the system has it."""

    listeners: tuple[Address, ...] = ()
    listen_backlog: int = 1024
    modules: tuple[str, ...] = ()
    errorlog: str = ""
    pid_file: str = ""
    username: str = ""
    groupname: str = ""
    chroot: str = ""
    max_connections: int = 4096
    max_fds: int = 0
    max_target_size: int = 8192
    max_field_size: int = 8192
    max_fields_size: int = 65536
    max_fields: int = 100
    upload_dirs: tuple[str, ...] = ()
    graceful_timeout: int = 30
    url_normalize_2f: Literal["reject", "decode"] = "reject"
    # Directives of ours.
    control_socket: str = ""
    cache_redis: str = ""
    cache_secret: str = ""
    proxy_status: bool = True
    audit_log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration: the process, the settings of every request, and what conditionals change in them."""

    server: ServerConfig = field(default_factory=ServerConfig)
    settings: Settings = field(default_factory=Settings)
    blocks: tuple[Block, ...] = ()
    places: Mapping[str, Where] = field(default_factory=dict, compare=False, repr=False)
    """Where the directives outside of conditionals stand, by name, for messages; empty without a file."""
