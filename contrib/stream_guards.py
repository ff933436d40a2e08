"""The guards of the byte streams: what came is read by whom it is for, what was posted leaves whole and in order, and
nothing that was found for one request is taken for what another one has to find."""

from __future__ import annotations

from guards import Guard

ROUNDS = "unit/test_rounds.py"
TURNS = "unit/test_turns.py unit/test_shelf.py"
ASKERS = "unit/test_auth_askers.py"
STRAYS = "fault/test_strays.py"
FAIRNESS = "fault/test_fairness.py"
STREAM_GUARDS = [
    # Reading.
    Guard(
        "net/streams.py",
        "            if self._came is not None:\n                return  # he has not had his turn yet\n",
        "",
        ROUNDS,
    ),
    Guard(
        "net/streams.py",
        "        if self._came is not None:\n            return\n        if not self._is_watching:",
        "        if not self._is_watching:",
        ROUNDS,
    ),
    Guard(
        "net/streams.py",
        "        if self._came is not None:\n            return True\n        try:\n",
        "        try:\n",
        ROUNDS,
    ),
    Guard("net/streams.py", "if self._reader is not None and self._came is not None:", "if True:", ROUNDS),
    Guard("net/streams.py", "            came, self._came = came[:size], came[size:]", "            pass", ROUNDS),
    Guard(
        "net/streams.py",
        "            self._reader = self._is_enough = None\n            self._take_pile()\n",
        "            self._reader = self._is_enough = None\n",
        "unit/test_streams.py",
    ),
    Guard(
        "net/rounds.py",
        "            except BaseException:\n                # The end",
        "            except LookupError if False else ():\n                # The end",
        ROUNDS,
    ),
    # Sending.
    Guard(
        "net/streams.py",
        "        if self._posted:\n            self.settle()\n        self._posted = data",
        "        self._posted = data",
        ROUNDS,
    ),
    Guard(
        "net/streams.py",
        "        if self._posted:\n            self.settle()\n        try:\n            sent",
        "        try:\n            sent",
        ROUNDS,
    ),
    Guard(
        "net/streams.py",
        "            self.send_posted()\n            if self._posted:\n                return 0\n",
        "            pass\n",
        ROUNDS,
    ),
    Guard("net/streams.py", "            self._posted = memoryview(posted)[sent:]\n", "", ROUNDS),
    Guard("net/streams.py", "            self._stalled.start(self._give_up)", "            pass", ROUNDS),
    Guard("net/streams.py", "        self._end_stall()\n        if posted:\n", "        if posted:\n", ROUNDS),
    Guard(
        "net/streams.py",
        "        self.settle()\n        try:\n            self._sock.shutdown",
        "        try:\n            self._sock.shutdown",
        ROUNDS,
    ),
    Guard(
        "net/streams.py",
        "            self.send_posted()\n            self._posted = b",
        "            self._posted = b",
        ROUNDS,
    ),
    Guard(
        "server/connection.py", "            self.stream.settle()\n", "            pass\n", "unit/test_slow_readers.py"
    ),
    Guard(
        "server/connection.py",
        "            except StreamClosed:\n                # Told to end,",
        "            except ZeroDivisionError:\n                # Told to end,",
        "unit/test_slow_readers.py",
    ),
    Guard("client/exchange.py", " or not stream.is_settled or", " or", "fault/test_retries.py"),
    Guard("client/exchange.py", "        if stream.has_stalled:", "        if False:", "fault/test_retries.py"),
    Guard(
        "net/rounds.py", "self._answers:\n                self._begin()", "self._answers:\n                pass", ROUNDS
    ),
    Guard(
        "net/streams.py",
        "            self.hang_up()\n            sent = len(posted)",
        "            sent = len(posted)",
        ROUNDS,
    ),
    Guard(
        "client/exchange.py",
        "        if self._end:\n            self._hurry(stream)\n        try:",
        "        try:",
        "fault/test_retries.py",
    ),
    # What requests of one round, or of one connection, share.
    Guard("auth/gate.py", "        request.turn = 0\n", "", TURNS),
    Guard(
        "server/connection.py", "        self._turn = 0\n        if event is None:", "        if event is None:", TURNS
    ),
    Guard("files/shelf.py", "kept.seen_in == turn == Round.here().number", "kept.seen_in == turn", TURNS),
    Guard("files/shelf.py", "if turn and kept.seen_in == turn", "if kept.seen_in == turn", TURNS),
    Guard("files/shelf.py", "kept.seen_in == turn == Round", "turn == Round", TURNS),
    Guard("auth/keeper.py", "        if request.variables:\n            return self._keys.who(request)\n", "", ASKERS),
    Guard("auth/keeper.py", "            and known.fields is request.fields\n", "", ASKERS),
    Guard("auth/keeper.py", "            and known.method == request.method\n", "", ASKERS),
    Guard("auth/keeper.py", "            and known.authority == request.authority\n", "", ASKERS),
    Guard(
        "auth/keeper.py",
        "            if self._cache.was_refused(who, began):",
        "            if False:",
        "unit/test_auth_outage.py",
    ),
    Guard(
        "server/writer.py",
        "                self._stream.reset_on_close()\n",
        "                pass\n",
        "unit/test_connection.py",
    ),
    # What follows an answer answers nobody.
    Guard("client/connection.py", "self.request_id % _MOST_IDS + 1", "1", STRAYS),
    Guard("client/exchange.py", "        if self._has_begun or not self._is_repeatable:", "        if False:", STRAYS),
    Guard("backend/pool.py", "        proc.keep_alive = False\n", "", STRAYS),
    # Others get their turn.
    Guard("server/connection.py", "            gevent.sleep(0)\n", "            pass\n", FAIRNESS),
    Guard(
        "server/connection.py",
        "            self.stream.wait_readable()\n            data = self.stream.recv()\n            if not data:\n"
        "                raise ClientClosed",
        "            data = self.stream.recv()\n            if not data:\n                raise ClientClosed",
        FAIRNESS,
    ),
    Guard(
        "client/exchange.py",
        "            stream.wait_readable()\n            data = stream.recv()\n",
        "            data = stream.recv()\n",
        FAIRNESS,
    ),
]
