"""The guards of what is an answer at all, of authorizers elsewhere, and of our FastCGI server."""

from __future__ import annotations

from guards import Guard

WIRE_GUARDS = [
    # The wire: what is an answer at all.
    Guard(
        "client/exchange.py",
        "                if event.protocol_status != constants.REQUEST_COMPLETE:",
        "                if False:",
        "interop/test_conformance.py",
    ),
    Guard(
        "client/exchange.py",
        "        if self._on_interim is None:\n",
        "        if False:\n",
        "interop/test_conformance.py",
    ),
    Guard(
        "fcgi/connection.py",
        "            elif request_id not in requests:\n                raise StrayRecord(",
        "            elif False:\n                raise StrayRecord(",
        "protocol/test_fcgi_replies.py protocol/test_fcgi_connection.py",
    ),
    Guard(
        "fcgi/connection.py",
        '    if len(content) != 8:\n            raise BadRecord(f"the content of END_REQUEST',
        '    if False:\n            raise BadRecord(f"the content of END_REQUEST',
        "protocol/test_fcgi_connection.py",
    ),
    Guard(
        "fcgi/connection.py",
        "return not (self._requests or self._is_spoiled or self._values_awaited)",
        "return not (self._requests or self._values_awaited)",
        "interop/test_conformance.py",
    ),
    Guard(
        "fcgi/connection.py",
        "            and data[HEADER_SIZE + length + padding :] in _ends_of(request_id)\n",
        "",
        "protocol/test_fcgi_whole_request.py",
    ),
    Guard(
        "fcgi/connection.py",
        "            and self._requests.get(request_id) == SENT_STDIN and self._answers[request_id] == ANSWERING\n",
        "",
        "protocol/test_fcgi_whole_request.py",
    ),
    Guard(
        "fcgi/connection.py",
        "kind == STDOUT and version == VERSION and answered_id == request_id and length",
        "kind == STDOUT and version == VERSION",
        "protocol/test_fcgi_whole_request.py",
    ),
    Guard(
        "fcgi/connection.py",
        "        if len(data) < HEADER_SIZE or not self._reader.is_between:\n",
        "        if len(data) < HEADER_SIZE:\n",
        "protocol/test_fcgi_whole_request.py",
    ),
    Guard(
        "fcgi/records.py",
        "            self.is_between = at == end\n",
        "            self.is_between = True\n",
        "protocol/test_fcgi_connection.py",
    ),
    Guard(
        "fcgi/records.py",
        "            if version != VERSION:\n",
        "            if False:\n",
        "interop/test_conformance.py protocol/test_fcgi_connection.py",
    ),
    Guard(
        "cgi/response.py",
        "                if status is not None:\n",
        "                if False:\n",
        "protocol/test_cgi_response.py",
    ),
    Guard(
        "cgi/response.py",
        '    if match is None:\n        raise BadCGIResponse(f"a status is',
        "    if match is None:\n        return 200, ''\n        raise BadCGIResponse(f\"a status is",
        "protocol/test_cgi_response.py",
    ),
    Guard(
        "cgi/response.py",
        "if not text.isprintable() and _CONTROL.search(text):",
        "if False:",
        "protocol/test_cgi_response.py",
    ),
    Guard(
        "cgi/response.py",
        "if not colon or not _TOKEN.fullmatch(raw_name):",
        "if False:",
        "protocol/test_cgi_response.py",
    ),
    # Authorizers elsewhere, passwords, and files that a backend names by URI.
    Guard("client/http.py", "if len(body) > self._largest:", "if False:", "unit/test_auth_forward.py"),
    Guard("client/http.py", "            self._room.release()", "            pass", "unit/test_auth_forward.py"),
    Guard("client/http.py", "if _FORBIDDEN.search(name) or", "if", "unit/test_auth_forward.py"),
    Guard("auth/forward.py", "name in _NOT_ASKED_WITH or", "", "unit/test_auth_forward.py"),
    Guard("auth/forward.py", "name in hop_by_hop or", "", "unit/test_auth_forward.py"),
    Guard("auth/forward.py", "and name.upper() not in said:", ":", "unit/test_auth_forward.py"),
    Guard("auth/userfile.py", "_stamp(status) if is_certain else None", "_stamp(status)", "unit/test_passwords.py"),
    Guard("auth/digest.py", "if made <= self._floor or ", "if ", "unit/test_auth_digest.py"),
    Guard("site.py", "if path.startswith(gate.key)][:1]", "][:0]", "interop/test_login_by_curl.py"),
    Guard("site.py", "also = [*self._login(served), ", "also = [", "interop/test_login_by_curl.py"),
    Guard("files/xaccel.py", "if file.is_regular:", "if True:", "unit/test_xaccel.py"),
    Guard("files/xaccel.py", 'stem = prefix.rstrip("/") + "/"', "stem = prefix", "unit/test_xaccel.py"),
    Guard("files/xaccel.py", "not host.x_accel_redirect or", "", "unit/test_xaccel.py"),
    # What our FastCGI server takes for a yes.
    Guard("server/authorizer.py", "if response.status_int == 200:", "if False:", "unit/test_fastcgi_server_roles.py"),
    Guard(
        "server/authorizer.py",
        "decision.status_int == 200 and decision.body",
        "False",
        "unit/test_fastcgi_server_roles.py",
    ),
    Guard("server/authorizer.py", 'hasattr(decide, "check")', "False", "unit/test_fastcgi_server_roles.py"),
    Guard(
        "auth/answers.py",
        'answer is None or answer is False or answer == ""',
        "answer is False",
        "unit/test_fastcgi_server_roles.py unit/test_auth_python.py",
    ),
]
