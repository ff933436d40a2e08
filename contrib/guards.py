"""The guards of the decision code, and what stands in their place when `mutation.py` removes them."""

from __future__ import annotations

from typing import NamedTuple


class Guard(NamedTuple):
    """What is removed from `file` (beneath gfastcgi/), and the files beneath tests/ that have to notice."""

    file: str
    text: str
    without: str
    tests: str


MEMORY = "unit/test_auth_cache.py unit/test_auth_keeper.py unit/test_auth_outage.py"
GUARDS = [
    # The FastCGI authorizer: what is a yes.
    Guard(
        "auth/fastcgi.py", "head.status == 200 and (", "200 <= head.status < 300 and (", "interop/test_conformance.py"
    ),
    Guard("auth/fastcgi.py", "(head.has_status or not host.require_status)", "True", "unit/test_auth.py"),
    Guard("auth/fastcgi.py", "if exchange.app_status != 0:", "if False:", "unit/test_auth.py"),
    Guard("auth/fastcgi.py", "body = self._read_whole(exchange)", 'body = b""', "unit/test_auth.py"),
    Guard("auth/fastcgi.py", "if len(body) > _LARGEST_DENIAL:", "if False:", "unit/test_auth.py"),
    Guard("auth/fastcgi.py", "            exchange.close()", "            pass", "unit/test_auth.py"),
    # What authorizers of every kind may say.
    Guard("auth/answers.py", "if not _VARIABLE.fullmatch(name):", "if False:", "unit/test_auth.py"),
    Guard("auth/answers.py", "if key in _NOT_TO_BE_SET:", "if False:", "interop/test_conformance.py"),
    Guard("auth/answers.py", "if name.lower() not in _NOT_PASSED_ON and not", "if not", "unit/test_auth.py"),
    # The chain: all of them, or any.
    Guard(
        "auth/chain.py",
        "        if not isinstance(decision, Allow):\n            return decision\n",
        "        if not isinstance(decision, Allow):\n            continue\n",
        "unit/test_auth_chain.py",
    ),
    Guard("auth/chain.py", 'if need == "any":', "if True:", "unit/test_auth_chain.py"),
    Guard("auth/chain.py", "    if not gates:", "    if False:", "unit/test_auth.py"),
    Guard(
        "auth/chain.py",
        "            if isinstance(outcome, Exception):\n                raise outcome\n",
        "            if isinstance(outcome, Exception):\n                outcome = Allow()\n",
        "unit/test_auth_chain.py",
    ),
    Guard(
        "auth/chain.py",
        "            if not isinstance(outcome, Allow):\n                return [outcome]\n",
        "",
        "unit/test_auth_chain.py",
    ),
    Guard(
        "auth/chain.py",
        "                if isinstance(outcome, Allow):\n                    return outcome\n",
        "                return outcome\n",
        "unit/test_auth_chain.py",
    ),
    Guard(
        "auth/gate.py",
        "if not isinstance(decision, (Allow, Deny)):",
        "if False:",
        "unit/test_auth.py unit/test_wsgi.py",
    ),
    # What is remembered, for whom, how long.
    Guard("auth/keys.py", "if not has_credential or (", "if (", "unit/test_auth_keys.py"),
    Guard(
        "auth/keys.py",
        "or (headers and not headers.keys().isdisjoint(_hop_by_hop(request.fields)))",
        "",
        "unit/test_auth_keys.py",
    ),
    Guard("auth/keys.py", "            request.authority,\n", "            None,\n", "unit/test_auth_keys.py"),
    Guard(
        "auth/keys.py",
        "tuple(sorted(request.variables.items())) if request.variables else None",
        "None",
        "unit/test_auth_keys.py",
    ),
    Guard("auth/keys.py", "if not config.has_credential:", "if False:", "unit/test_auth_keys.py"),
    Guard("auth/keys.py", "any(self._moved.get(name) for", "any(True for", "unit/test_auth_keys.py"),
    Guard("auth/cache.py", "allowed[0] > self._clock()", "True", "unit/test_auth_cache.py"),
    Guard("auth/cache.py", "denied[0] > self._clock()", "True", "unit/test_auth_cache.py"),
    Guard(
        "auth/cache.py",
        "decision.response_headers or decision.max_age == 0",
        "decision.max_age == 0",
        "unit/test_auth_cache.py",
    ),
    Guard("auth/cache.py", "or decision.max_age == 0 or", "or", "unit/test_auth_cache.py"),
    Guard("auth/cache.py", " or not self._vary.issuperset(decision.vary)", "", "unit/test_auth_cache.py"),
    Guard("auth/cache.py", "decision.response.status_int not in _KEPT_DENIALS", "False", "unit/test_auth_cache.py"),
    Guard(
        "auth/cache.py",
        'if any(name.lower() == "set-cookie" for name, _ in fields):',
        "if False:",
        "unit/test_auth_cache.py",
    ),
    Guard(
        "auth/cache.py",
        "        if generation != self.generation:\n            return None\n",
        "",
        MEMORY,
    ),
    Guard("auth/cache.py", "end + self._stale_seconds <= self._clock()", "False", "unit/test_auth_cache.py"),
    Guard(
        "auth/cache.py",
        "return allow if since > max(",
        "return allow if True or since > max(",
        MEMORY,
    ),
    Guard("auth/cache.py", "min(seconds, self._config.ttl)", "seconds", "unit/test_auth_cache.py"),
    Guard("auth/freshness.py", "return 0 if is_old else None", "return None", "unit/test_auth_cache.py"),
    Guard(
        "auth/freshness.py",
        "                if found is None or found[1] in _NEVER:\n                    return 0\n",
        "                if found is None:\n                    return 0\n",
        "unit/test_auth_cache.py",
    ),
    Guard("auth/freshness.py", "found is None or ", "found and ", "unit/test_auth_cache.py"),
    Guard(
        "auth/keeper.py",
        "        except _OUTAGES as error:",
        "        except Exception as error:",
        MEMORY,
    ),
    Guard(
        "auth/keeper.py",
        "        self._grants.take_back(who, request.path)\n",
        "",
        MEMORY,
    ),
    Guard("auth/keeper.py", "        self._cache.refuse(who)\n", "", MEMORY),
    Guard(
        "auth/keeper.py",
        "if not isinstance(found[0], Allow):",
        "if False:",
        MEMORY,
    ),
    Guard(
        "auth/keeper.py",
        "            flight.kept = kept\n",
        "            flight.kept = decision if isinstance(decision, Allow) else None\n",
        MEMORY,
    ),
    Guard(
        "auth/keeper.py",
        "return (who, self._keys.where(request)) if self._keys.has_where else who",
        "return who",
        MEMORY,
    ),
    Guard(
        "auth/keeper.py",
        "if generation == self._cache.generation and allow.max_age != 0 and",
        "if",
        MEMORY,
    ),
    Guard(
        "auth/keeper.py",
        " and self._keys.vary.issuperset(allow.vary)",
        "",
        MEMORY,
    ),
    Guard("auth/cache.py", "or not self._stale_seconds or", "or", MEMORY),
    Guard("auth/fastcgi.py", "if not is_named and any(", "if False and any(", "unit/test_auth.py"),
    Guard("auth/keys.py", ' if self._is_plain(cookie) else [(b"", cookie)]', "", "unit/test_auth_keys.py"),
    Guard("auth/keys.py", "any(value.strip(_EMPTY) for _, value in found)", "bool(found)", "unit/test_auth_keys.py"),
    Guard(
        "auth/keys.py",
        "in request.variables.items() if value)",
        "in request.variables.items())",
        "unit/test_auth_keys.py",
    ),
    Guard(
        "config/paths.py",
        ' and path[len(prefix.rstrip("/")) :][:1] in ("", "/")',
        "",
        f"{MEMORY} property/test_auth_cache_property.py",
    ),
    Guard(
        "auth/grants.py",
        'if key.startswith("/") and not prefix.startswith(key) and prefix + "/" != key:',
        "if False:",
        MEMORY,
    ),
    Guard(
        "auth/grants.py",
        "min(int(ttl), longest)",
        "int(ttl)",
        MEMORY,
    ),
    Guard(
        "auth/grants.py",
        "if end > now and is_beneath(path, prefix):",
        "if is_beneath(path, prefix):",
        MEMORY,
    ),
    Guard(
        "auth/shared.py",
        "if not hmac.compare_digest(signature, _digest(self._value_secret, key + payload)):",
        "if False:",
        "interop/test_shared_decisions.py",
    ),
    Guard(
        "auth/shared.py",
        'if told["epoch"].encode() != self._epoch or seconds <= 0:',
        "if seconds <= 0:",
        "interop/test_shared_decisions.py",
    ),
    # Over HTTP, in Python, by password.
    Guard("auth/forward.py", "200 <= answer.status < 300", "200 <= answer.status < 400", "unit/test_auth_forward.py"),
    Guard("auth/forward.py", "name in self._hidden or name.startswith(_OURS)", "False", "unit/test_auth_forward.py"),
    Guard("auth/forward.py", "    if len(values) > 1:\n", "    if False:\n", "unit/test_auth_forward.py"),
    Guard("auth/answers.py", "if answer is True:", "if answer:", "unit/test_auth_python.py"),
    Guard("auth/python.py", 'if any(char in text for char in "\\r\\n\\0"):', "if False:", "unit/test_auth_python.py"),
    Guard("client/http.py", "if self._is_final:", "if False:", "unit/test_auth_forward.py"),
    Guard("client/http.py", " or bool(pending and pending())", "", "unit/test_auth_forward.py"),
    Guard("auth/basic.py", "any(fitting) and bool(stored)", "any(fitting)", "unit/test_auth_login.py"),
    Guard("auth/basic.py", "None if login.is_busy(request) else self._try", "self._try", "unit/test_auth_login.py"),
    Guard("auth/basic.py", "if self._login.is_busy(request):", "if False:", "unit/test_auth_login.py"),
    Guard(
        "auth/basic.py",
        "turn = self._login.turn(request)",
        "turn = type(self._login.turn(request))(1)",
        "unit/test_auth_login.py",
    ),
    Guard("auth/basic.py", "gevent.spawn(work).get()", "work()", "unit/test_auth_login.py"),
    Guard("auth/throttle.py", "sum(due > now for due in client.waits)", "0", "unit/test_auth_login.py"),
    Guard(
        "auth/basic.py",
        'b"%d:%d:%b:%b" % (generation, len(user), user, password)',
        'b"%d:%b:%b" % (0, user, password)',
        "unit/test_auth_login.py",
    ),
    Guard(
        "auth/login.py",
        "if not self._may_pass(user, request.remote_addr):",
        "if False:",
        "unit/test_auth_login.py",
    ),
    Guard("auth/digest.py", 'if not _is_for(given["uri"], request):', "if False:", "unit/test_auth_digest.py"),
    Guard("auth/digest.py", 'given["realm"] != login.realm or', "", "unit/test_auth_digest.py"),
    Guard("auth/digest.py", "return is_equal and secret is not None", "return is_equal", "unit/test_auth_digest.py"),
    Guard(
        "auth/digest.py",
        "or not self._nonces.use(nonce, count, login.realm, request.id)",
        "",
        "unit/test_auth_digest.py",
    ),
    Guard(
        "auth/denial.py",
        "return self._passes_preflight and is_preflight(request)",
        "return is_preflight(request)",
        "unit/test_auth_denial.py",
    ),
    Guard(
        "auth/denial.py",
        "names = {name for name, _ in request.fields}",
        "return request.method == 'OPTIONS'",
        "unit/test_auth_denial.py",
    ),
    Guard(
        "auth/hygiene.py",
        "folded = fold(name)",
        "folded = name.upper()",
        "unit/test_auth_hygiene.py",
    ),
    Guard("auth/hygiene.py", " or folded in self._learned:", ":", "unit/test_auth_hygiene.py"),
    Guard("auth/hygiene.py", "            self._passing.clear()\n", "", "unit/test_auth_hygiene.py"),
    Guard(
        "auth/hygiene.py",
        "            if kind == _PASS:\n",
        "            if kind != _ALLOW:\n",
        "unit/test_auth_hygiene.py",
    ),
    Guard(
        "auth/recheck.py",
        'return "" if self._is_allowed() else',
        'return "" if self._is_allowed() or True else',
        "unit/test_auth_recheck.py",
    ),
    Guard("http/target.py", 'if segment.startswith((b".;", b"..;")):', "if False:", "unit/test_target.py"),
    Guard(
        "http/target.py",
        r"(?:\.[A-Za-z0-9_-]+)*)\.?|(",
        r"(?:\.[A-Za-z0-9_-]+)*\.?)|(",
        "unit/test_target.py protocol/test_http_request.py",
    ),
    # The time of a decision, and what is no outage.
    Guard(
        "auth/keeper.py",
        "        except AnswerStalled:",
        "        except ZeroDivisionError:",
        MEMORY,
    ),
    Guard(
        "client/exchange.py",
        "AnswerStalled if self._has_begun else BackendTimeout",
        "BackendTimeout",
        "unit/test_auth.py",
    ),
    Guard("client/exchange.py", "        if left <= 0:\n", "        if False:\n", "unit/test_auth.py"),
    Guard(
        "client/http.py", "AnswerStalled if begun else BackendTimeout", "BackendTimeout", "unit/test_auth_forward.py"
    ),
    Guard(
        "client/http.py",
        "gevent.Timeout(self._time_limit, late)",
        "gevent.Timeout(None, late)",
        "unit/test_auth_forward.py",
    ),
    Guard(
        "auth/python.py",
        "                late = AnswerStalled\n",
        "                pass\n",
        "unit/test_auth_python.py",
    ),
    Guard(
        "auth/python.py",
        "if isinstance(answer, Deny) and isinstance(answer.response, webob.Response):",
        "if isinstance(answer, Deny):",
        "unit/test_auth_python.py",
    ),
    Guard("auth/python.py", "except (ClientClosed, QuestionEnded):", "except ():", "unit/test_auth_python.py"),
    Guard(
        "auth/chain.py",
        "            if isinstance(outcome, gevent.GreenletExit):",
        "            if False:",
        "unit/test_auth_chain.py",
    ),
    Guard(
        "auth/shared.py",
        "if not isinstance(epoch, bytes) or not _EPOCH.fullmatch(epoch):",
        "if epoch is None:",
        "interop/test_shared_decisions.py",
    ),
    Guard(
        "auth/recheck.py",
        "        except (gevent.GreenletExit, gevent.Timeout) as error:",
        "        except ZeroDivisionError as error:",
        "unit/test_auth_recheck.py",
    ),
    Guard(
        "server/connection.py", "and (left := end - monotonic()) > 0:", "and (left := 60):", "unit/test_connection.py"
    ),
    # What looks guarded and is not, at start.
    Guard("config/soundness.py", "    fault = key_fault(key)\n", '    fault = ""\n', "unit/test_lighttpd_access.py"),
    Guard(
        "config/soundness.py", "        if other is not None:\n", "        if False:\n", "unit/test_lighttpd_access.py"
    ),
    Guard(
        "config/soundness.py",
        "    if host.bin_path and not host.script:\n",
        "    if False:\n",
        "unit/test_lighttpd_openings.py",
    ),
    Guard(
        "config/soundness.py", "    if host.mode not in _MODES:\n", "    if False:\n", "unit/test_config_soundness.py"
    ),
    Guard("config/soundness.py", "    if not extension.hosts:\n", "    if False:\n", "unit/test_config_soundness.py"),
    Guard(
        "assemble.py",
        "            for fault in extension_faults(extension):\n",
        "            for fault in ():\n",
        "unit/test_config_soundness.py",
    ),
    Guard("logins.py", "    if fault:\n", "    if False:\n", "unit/test_config_soundness.py"),
    Guard(
        "auth/shared.py",
        "        if len(secret) < MIN_SECRET:\n",
        "        if False:\n",
        "unit/test_config_soundness.py",
    ),
    Guard(
        "lighttpd/compile.py",
        "            if reason and not is_off(setting.value):\n",
        "            if False:\n",
        "unit/test_lighttpd_openings.py",
    ),
    Guard(
        "lighttpd/lost_gates.py",
        "        if not any(_covers(other, key) for other in held):\n",
        "        if False:\n",
        "unit/test_lighttpd_lost_gates.py",
    ),
    Guard(
        "lighttpd/lost_gates.py",
        "            if is_around or not later.overrides[attribute]:\n",
        "            if True:\n",
        "unit/test_lighttpd_lost_gates.py",
    ),
    Guard("elsewhere.py", "    if fault:\n", "    if False:\n", "unit/test_lighttpd_access.py"),
    Guard("lighttpd/access.py", "    if fault:\n", "    if False:\n", "unit/test_lighttpd_access.py"),
    # The way through the gateway.
    Guard("gateway.py", "if not place.gates:", "if True:", "fault/test_authz_paths.py"),
    Guard(
        "gateway.py",
        "        decision = _ask(request, site, place)\n        if not isinstance(decision, Allow):\n",
        "        decision = _ask(request, site, place)\n        if not isinstance(decision, Allow):\n"
        "            decision = Allow()\n        if False:\n",
        "fault/test_authz_paths.py",
    ),
    Guard("gateway.py", "    if is_due:\n", "    if False:\n", "interop/test_decisions.py"),
    Guard(
        "gateway.py",
        "        if to is Own.DENIAL:\n            return error_page(403, request_id=request.id)\n",
        "",
        "interop/test_files_over_http.py unit/test_site.py",
    ),
    Guard("site.py", "gates += [gate for gate in also if gate not in gates]", "pass", "unit/test_site.py"),
    Guard("site.py", "if gate not in gates and self._may_be_within(gate, path)]", "if False]", "unit/test_site.py"),
    Guard(
        "site.py", 'is_denied = any(f"{suffix}/" in path', 'is_denied = any(f"{suffix}//" in path', "unit/test_site.py"
    ),
    Guard("site.py", " or gate.key == mapped(self.settings.map_extensions, path)", "", "unit/test_site.py"),
    Guard(
        "site.py",
        "if is_denied or self._is_denied(path) or self._is_denied(served):",
        "if is_denied or self._is_denied(path):",
        "unit/test_site.py",
    ),
    Guard(
        "site.py",
        "path.startswith(gate.key)][:1]",
        "path == gate.key][:1]",
        "unit/test_site.py interop/test_login_by_curl.py",
    ),
    Guard(
        "variables.py",
        "hidden = _NOT_FOR_ANY_AUTHORIZER if is_compatible else VARIABLES_ABOUT_THE_FILE",
        "hidden = _NOT_FOR_ANY_AUTHORIZER",
        "unit/test_variables.py fault/test_authz_paths.py",
    ),
    Guard(
        "variables.py",
        "taken = variables.keys() | shadowed",
        "taken = variables.keys()",
        "unit/test_variables.py fault/test_authz_questions.py",
    ),
    Guard("cgi/metavars.py", "or is_vague(field)", "", "unit/test_metavars.py"),
    Guard("cgi/metavars.py", "field in _REFUSED or", "", "unit/test_metavars.py"),
    Guard("net/beneath.py", "_RESOLVE_BENEATH if is_bound else 0", "0", "unit/test_beneath.py"),
    Guard("net/beneath.py", "if file.is_regular or file.is_dir:", "if True:", "unit/test_beneath.py"),
    Guard(
        "net/beneath.py",
        'if not any(place == tree or place.startswith(tree.rstrip("/") + "/") for tree in allowed):',
        "if False:",
        "unit/test_beneath.py",
    ),
    # Library.
    Guard("wsgi/middleware.py", "        if not authorizers:\n", "        if False:\n", "unit/test_wsgi.py"),
    Guard(
        "wsgi/middleware.py",
        "            return send(decision.response, environ, start_response)\n",
        "            decision = Allow()\n",
        "unit/test_wsgi.py",
    ),
    Guard(
        "wsgi/files.py",
        "            return send(decision.response, environ, start_response)\n",
        "            decision = Allow()\n",
        "unit/test_wsgi.py",
    ),
    Guard(
        "wsgi/environ.py",
        "    if not is_beneath(target.path, _script_name(environ)):",
        "    if False:",
        "unit/test_wsgi.py",
    ),
    Guard("wsgi/environ.py", "return key in told and", "return", "unit/test_wsgi.py"),
    Guard("wsgi/environ.py", ' and key[len(b"HTTP_") :] not in request.variables', "", "unit/test_wsgi.py"),
    Guard("wsgi/environ.py", '(authority if name == b"host" else value)', "value", "unit/test_wsgi.py"),
    Guard("auth/python.py", "monotonic() - started > self.time_limit", "False", "unit/test_auth_python.py"),
    Guard("server/authorizer.py", "monotonic() - started > limit", "False", "unit/test_fastcgi_server_roles.py"),
    Guard("wsgi/environ.py", "        guarded.pop(identity.decode(), None)\n", "        pass\n", "unit/test_wsgi.py"),
    Guard(
        "library/gateway.py",
        "                if condition.variable == _SOCKET:",
        "                if False:",
        "unit/test_hosting.py",
    ),
    Guard("wsgi/hosting.py", "            if not piece:\n", "            if False:\n", "unit/test_hosting.py"),
    Guard("site.py", "Own.DENIAL if self._is_denied(path) else Own.STATISTICS", "Own.STATISTICS", "unit/test_site.py"),
    Guard(
        "site.py",
        "return Place(gates, root, to,",
        "return Place(gates if app is None else (), root, to,",
        "unit/test_mounts.py",
    ),
    Guard(
        "site.py",
        "if is_denied or self._is_denied(path) or self._is_denied(served):",
        "if app is None and (is_denied or self._is_denied(path) or self._is_denied(served)):",
        "unit/test_mounts.py",
    ),
    Guard("library/fastcgi_app.py", '() if files else ("",)', "()", "interop/test_wsgi_gateway.py"),
]
