"""Directives of lighttpd that gfastcgi does not serve: which of them may be passed over, and which must not.

Contract: a site whose access control, or whose way of handling files, is not understood is not served at all.
"""

from __future__ import annotations

from gfastcgi.lighttpd.nodes import Array, Value

__all__ = ["UNSAFE", "UNSERVED", "is_off", "misspelling_reason", "unsafe_reason"]

_ACCESS = "it restricts access"
_SOURCE = "the files that it handles would be sent as they are"
_DOCROOT = "it chooses the document root"
_ADDRESS = "it decides which address a request comes from"

UNSAFE = {
    "auth.backend.dbi": _ACCESS,
    "auth.backend.gssapi.": _ACCESS,
    "auth.backend.ldap.": _ACCESS,
    "auth.backend.mysql.": _ACCESS,
    "auth.backend.pam.": _ACCESS,
    "auth.backend.sasl.": _ACCESS,
    "auth.debug": _ACCESS,
    "auth.extern-authn": _ACCESS,
    "secdownload.": _ACCESS,
    "evasive.": _ACCESS,
    "trigger-before-download.": _ACCESS,
    "magnet.": "its scripts may restrict access",
    "cml.": _SOURCE,
    "simple-vhost.": _DOCROOT,
    "evhost.": _DOCROOT,
    "vhostdb.": _DOCROOT,
    "mysql-vhost.": _DOCROOT,
    "extforward.forwarder": _ADDRESS,
    "extforward.hap-proxy": _ADDRESS,
    "setenv.set-request-header": "it keeps clients from sending a field",
    "ssl.engine": "requests would travel without TLS",
    "ssl.verifyclient.": _ACCESS,
    "cgi.assign": _SOURCE,
    "scgi.server": _SOURCE,
    "uwsgi.server": _SOURCE,
    "proxy.server": _SOURCE,
    "ajp13.server": _SOURCE,
    "sockproxy.server": _SOURCE,
    "wstunnel.server": _SOURCE,
    "ssi.extension": _SOURCE,
}
"""Directives, and beginnings of directives (those that end in a dot), that make serving without them unsafe."""

_ACCESS_OPTIONS = frozenset({
    "fastcgi.allow-fields", "fastcgi.authorizers", "fastcgi.identity-fields", "fastcgi.map-extensions",
    "fastcgi.server", "static-file.exclude-extensions", "url.access-allow", "url.access-deny", "wsgi.server",
})  # fmt: skip
"""Served directives that say who may see what, beside `auth.*`: where one of them is misspelled, the site is open."""

_NAMES = """
    accesslog.escaping accesslog.syslog-level accesslog.use-syslog
    ajp13.balance ajp13.debug ajp13.map-extensions
    cgi.execute-x-only cgi.limits cgi.local-redir cgi.upgrade cgi.x-sendfile cgi.x-sendfile-docroot
    compress.allowed-encodings compress.cache-dir compress.filetype compress.max-filesize
    connection.kbytes-per-second
    debug.log-condition-cache-handling debug.log-condition-handling debug.log-file-not-found
    debug.log-request-handling debug.log-request-header debug.log-request-header-on-error
    debug.log-response-header debug.log-ssl-noise debug.log-state-handling debug.log-timeouts
    deflate.allowed-encodings deflate.cache-dir deflate.compression-level deflate.max-compress-size
    deflate.max-loadavg deflate.mimetypes deflate.min-compress-size deflate.params deflate.work-block-size
    dir-listing.activate dir-listing.auto-layout dir-listing.cache dir-listing.encode-header
    dir-listing.encode-readme dir-listing.encoding dir-listing.exclude dir-listing.external-css
    dir-listing.external-js dir-listing.hide-dotfiles dir-listing.hide-header-file dir-listing.hide-readme-file
    dir-listing.set-footer dir-listing.show-header dir-listing.show-readme
    expire.mimetypes expire.url
    extforward.hap-proxy-ssl-client-verify extforward.headers extforward.params
    maxminddb.activate maxminddb.db maxminddb.env
    mimetype.use-xattr mimetype.xattr-name
    proxy.balance proxy.debug proxy.force-http10 proxy.forwarded proxy.header proxy.map-extensions
    proxy.replace-http-host
    rrdtool.binary rrdtool.db-name
    scgi.balance scgi.debug scgi.map-extensions scgi.protocol
    server.absolute-dir-redirect server.breakagelog server.bsd-accept-filter server.chunkqueue-chunk-sz
    server.compat-module-load server.core-files server.defer-accept server.dir-listing server.error-handler
    server.error-handler-404 server.error-intercept server.errorfile-prefix server.errorlog-use-syslog
    server.event-handler server.force-lowercase-filenames server.http-parseopt-header-strict
    server.http-parseopt-host-normalize server.http-parseopt-host-strict server.indexfiles
    server.kbytes-per-second server.max-worker server.network-backend server.protocol-http11
    server.range-requests server.reject-expect-100-with-417 server.set-v6only server.stat-cache-engine
    server.syslog-facility server.systemd-socket-activation server.upload-temp-file-size server.use-ipv6
    server.v4mapped
    setenv.add-environment setenv.add-request-header setenv.add-response-header setenv.set-environment
    setenv.set-response-header
    sockproxy.balance sockproxy.debug
    ssi.conditional-requests ssi.content-type ssi.exec ssi.recursion-max
    ssl.acme-tls-1 ssl.ca-crl-file ssl.ca-dn-file ssl.ca-file ssl.cipher-list ssl.dh-file ssl.ec-curve
    ssl.non-encrypted-http ssl.honor-cipher-order ssl.openssl.ssl-conf-cmd ssl.pemfile ssl.privkey
    ssl.read-ahead ssl.stapling-file ssl.stek-file ssl.use-sslv2 ssl.use-sslv3 ssl.disable-client-renegotiation
    static-file.disable-pathinfo
    status.config-url status.enable-sort status.status-url
    userdir.active userdir.basepath userdir.exclude-user userdir.include-user userdir.letterhomes userdir.path
    usertrack.cookie-attrs usertrack.cookie-domain usertrack.cookie-max-age usertrack.cookie-name
    webdav.activate webdav.is-readonly webdav.log-xml webdav.opts webdav.sqlite-db-name
    wstunnel.balance wstunnel.debug wstunnel.frame-type wstunnel.map-extensions wstunnel.origins
    wstunnel.ping-interval
"""

UNSERVED = frozenset(_NAMES.split())
"""Directives whose absence takes nothing away but what they do: known, and warned of by name."""


def unsafe_reason(name: str) -> str:
    """Why a site cannot be served without the directive `name` (in lower case), or ""."""
    for known, reason in UNSAFE.items():
        if name == known or (known.endswith(".") and name.startswith(known)):
            return reason
    return ""


def misspelling_reason(name: str, known: str, value: Value | None) -> str:
    """Why a site cannot be served without the unknown directive `name` (in lower case), or "".

    `known` is the nearest name that is known, "" for none.
    """
    if value is not None and _has_authorizer(value):
        return "it names an authorizer"
    if name.startswith("auth.") or known.startswith("auth.") or known in _ACCESS_OPTIONS:
        return "it may restrict access"
    return unsafe_reason(known)


def is_off(value: Value | None) -> bool:
    """Whether a directive with this value does nothing."""
    return value in ("", "disable", 0) or (isinstance(value, Array) and not value.items)


def _has_authorizer(value: Value) -> bool:
    if not isinstance(value, Array):
        return False
    return any((item.key, item.value) == ("mode", "authorizer") or _has_authorizer(item.value) for item in value)
