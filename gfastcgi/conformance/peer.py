"""A FastCGI application on threads that answers each request with the bytes it is told, and notes what it was asked.

Contract: one thread accepts for all addresses of a `listen`, one serves each connection. Where the caller has patched
the standard library (the command line does) they are greenlets.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Literal

from gfastcgi.conformance import wire
from gfastcgi.conformance.conversation import Asked, Conversation
from gfastcgi.conformance.rows import Reply

__all__ = ["Peer", "Script"]

Script = Callable[[Asked], "Reply | bytes"]
"""What to answer: a `Reply`, or the bytes of one that keeps the connection."""

_BACKLOG = 1024


class Peer:
    """Listens on unix sockets (by path) and TCP (by host and port, 0 is any); `script(asked)` gives each answer.

    `talk(conversation)` in its place has the whole conversation of one connection in its hands. `answers_at` says when
    a request is answered: with the end of its body, or of its meta-variables already. `is_serial`: a connection is
    accepted when the one before has ended, as a program of one thread does. Who only asks for FCGI_GET_VALUES gets
    `values` (name-value pairs), and counts as `asked`.
    """

    def __init__(
        self,
        script: Script,
        *,
        talk: Callable[[Conversation], None] | None = None,
        answers_at: Literal["params", "stdin"] = "stdin",
        is_serial: bool = False,
        keep_stdin: bool = True,
        values: bytes = b"",
        backlog: int = _BACKLOG,
    ) -> None:
        self.script = script
        self.talk = talk or self.answer_all
        self.keep_stdin, self.values = keep_stdin, values
        self.requests: list[Asked] = []
        """Those that came whole, in order."""
        self.connections = self.begun = self.aborts = self.asked = 0
        self.errors: list[BaseException] = []
        """What scripts raised."""
        self.ending = threading.Event()
        """Set when it stops, for scripts that wait."""
        self._answers_at = answers_at
        self._is_serial = is_serial
        self._backlog = backlog
        self._listeners: dict[str | tuple[str, int], socket.socket] = {}
        self._accepting: list[tuple[threading.Thread, socket.socket]] = []
        self._open: set[socket.socket] = set()
        self._idle = threading.Condition()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {', '.join(map(str, self._listeners)) or 'no address'}>"

    @property
    def addresses(self) -> list[str | tuple[str, int]]:
        """Where it listens."""
        return list(self._listeners)

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def add(self, asked: Asked) -> None:
        """Notes a request that came whole."""
        self.requests.append(asked)

    # Its life

    def listen(self, *addresses: str | tuple[str, int]) -> None:
        """Listens and begins to accept. Raises OSError when an address cannot be had."""
        listeners = {}
        for address in addresses:
            listener = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(self._backlog)
            listeners[listener] = listener.getsockname()
        self._listeners.update({address: listener for listener, address in listeners.items()})
        waking, woken = socket.socketpair()
        thread = threading.Thread(target=self._accept, args=(listeners, woken), daemon=True)
        self._accepting.append((thread, waking))
        thread.start()

    def deafen(self) -> None:
        """Stops listening: who connects is refused. Connections that are open go on, the files of sockets stay."""
        for _, waking in self._accepting:
            waking.close()
        if self._is_serial:
            self._hang_up()
        for thread, _ in self._accepting:
            thread.join()
        self._accepting.clear()
        for listener in self._listeners.values():
            listener.close()

    def stop(self) -> None:
        """Ends all connections and removes the sockets; a second time does nothing.

        Raises AssertionError when a script raised something.
        """
        name = repr(self)
        self.ending.set()
        self.deafen()
        for address in self._listeners:
            if isinstance(address, str):
                with contextlib.suppress(OSError):
                    os.unlink(address)
        self._listeners.clear()
        self._hang_up()
        with self._idle:
            if not self._idle.wait_for(lambda: not self._open, 10.0):
                raise AssertionError(f"{len(self._open)} connections of {name} do not end")
        if self.errors:
            raise AssertionError(f"the script of {name} raised {self.errors[0]!r}") from self.errors[0]

    def _hang_up(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # Its connections

    def _accept(self, listeners: dict[socket.socket, str | tuple[str, int]], woken: socket.socket) -> None:
        with woken:
            while True:
                ready, _, _ = select.select([*listeners, woken], [], [])
                if woken in ready:
                    return
                for listener in ready:
                    sock, _ = listener.accept()
                    self._open.add(sock)
                    arguments = (sock, listeners[listener])
                    if self._is_serial:
                        self._converse(*arguments)
                    else:
                        threading.Thread(target=self._converse, args=arguments, daemon=True).start()

    def _converse(self, sock: socket.socket, address: str | tuple[str, int]) -> None:
        try:
            head = sock.recv(2, socket.MSG_PEEK)
            if head[1:] == bytes([wire.GET_VALUES]):
                self.asked += 1
                self.converse(sock, 0, address).read_request()
            else:
                with self._idle:
                    self.connections += 1
                    number = self.connections
                self.talk(self.converse(sock, number, address))
        except OSError:
            pass  # the web server went away, as some answers make it
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            with self._idle:
                self._open.discard(sock)
                self._idle.notify_all()

    def converse(self, sock: socket.socket, number: int, address: str | tuple[str, int]) -> Conversation:
        """The conversation of a new connection."""
        return Conversation(self, sock, number, address)

    def answer_all(self, conversation: Conversation) -> None:
        """Answers every request of a connection by the script."""
        while (asked := conversation.read_request(until=self._answers_at)) is not None:
            reply = self.script(asked)
            reply = Reply(reply) if isinstance(reply, bytes) else reply
            self.ending.wait(reply.after)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                conversation.sock.sendall(wire.for_request(reply.data, asked.request_id))
            then = reply.then if reply.then != "keep" or asked.keep_conn else "close"
            if then == "close" and self._answers_at == "params":
                # The empty STDIN may still be on its way: closing at once would reset what was not read yet.
                then = "half"
            if then != "keep":
                return conversation.finish(then)
        return None
