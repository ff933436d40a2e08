"""Asks the authorizers of a request: all have to allow, or any one, as `fastcgi.authorizers` says.

Contract: only an `Allow` lets through. Authorizers are asked one after the other, and see the variables of those before
them; neighbours that are `"independent"` are asked side by side, and what they say is merged in their order. The
variables reach the responder; what the client sent under such a name is gone by then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from operator import attrgetter

import gevent

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.gate import Gate, QuestionEnded
from gfastcgi.errors import StreamError
from gfastcgi.request import Request

__all__ = ["ask", "ask_anew"]

AskOf = Callable[[Gate], Callable[[Request, str], Decision]]

_DECIDE: AskOf = attrgetter("decide")
_DECIDE_ANEW: AskOf = attrgetter("decide_anew")


def ask(gates: Sequence[Gate], request: Request, root: str, *, need: str = "all", ask_of: AskOf = _DECIDE) -> Decision:
    """The denial, or an `Allow` with the header fields that all who allowed add to the final answer.

    `request` gets their variables. Raises what an authorizer raises: an answer that never came is for the gateway to
    refuse; ValueError without `gates`: nobody would have allowed.
    """
    if len(gates) == 1:
        return _accept(ask_of(gates[0])(request, root), request)
    if not gates:
        raise ValueError("a gate without an authorizer would be open")
    if need == "any":
        return _accept(_ask_any(gates, request, root, ask_of), request)
    added: list[tuple[str, str]] = []
    for decision in _one_by_one(gates, request, root, ask_of):
        if not isinstance(decision, Allow):
            return decision
        _accept(decision, request)
        added += decision.response_headers
    return Allow(response_headers=tuple(added))


def _accept(decision: Decision, request: Request) -> Decision:
    """`decision`, whose variables `request` gets."""
    if isinstance(decision, Allow) and decision.variables:
        variables = request.variables
        variables.update(decision.variables)
        user = variables.get(b"REMOTE_USER")
        if user is not None:
            request.user = user.decode("utf-8", "replace")
    return decision


def _one_by_one(gates: Sequence[Gate], request: Request, root: str, ask_of: AskOf) -> Iterator[Decision]:
    """What is allowed counts before the next is asked."""
    for group in _groups(gates):
        if len(group) == 1:
            yield ask_of(group[0])(request, root)
        else:
            yield from _ask_all(group, request, root, ask_of)


def ask_anew(
    gates: Sequence[Gate], request: Request, root: str, before: Mapping[bytes, bytes], *, need: str = "all"
) -> Decision:
    """What the authorizers say of `request` now, whatever is remembered; it is left alone. Raises as `ask` does.

    `before` are the variables that it had when they were first asked.
    """
    again = copy(request)
    again.variables = dict(before)
    return ask(gates, again, root, need=need, ask_of=_DECIDE_ANEW)


def _groups(gates: Sequence[Gate]) -> Iterator[Sequence[Gate]]:
    """Neighbours that may be asked side by side, each group as long as it gets."""
    start = 0
    while start < len(gates):
        end = start + 1
        while gates[start].is_independent and end < len(gates) and gates[end].is_independent:
            end += 1
        yield gates[start:end]
        start = end


def _ask_all(gates: Sequence[Gate], request: Request, root: str, ask_of: AskOf) -> list[Decision]:
    """What each of `gates` says, or the first denial alone. Raises the first failure."""
    found: dict[int, Decision] = {}
    with closing(_side_by_side(gates, request, root, ask_of)) as outcomes:
        for place, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            if not isinstance(outcome, Allow):
                return [outcome]
            found[place] = outcome
    return [found[place] for place in range(len(gates))]


def _ask_any(gates: Sequence[Gate], request: Request, root: str, ask_of: AskOf) -> Decision:
    """The first yes, in time; else the first denial in their order. Raises the first failure where nobody denies."""
    found: dict[int, Decision | Exception] = {}
    start = 0
    for group in _groups(gates):
        with closing(_side_by_side(group, request, root, ask_of)) as outcomes:
            for place, outcome in outcomes:
                if isinstance(outcome, Allow):
                    return outcome
                found[start + place] = outcome
        start += len(group)
    in_order = [found[place] for place in range(len(gates))]
    for outcome in in_order:
        if isinstance(outcome, Deny):
            return outcome
    raise next(outcome for outcome in in_order if isinstance(outcome, Exception))


def _side_by_side(
    gates: Sequence[Gate], request: Request, root: str, ask_of: AskOf
) -> Generator[tuple[int, Decision | Exception], None, None]:
    """Each outcome with its place, as they come. Who stops iterating ends the questions that are still on their way."""

    def outcome_of(gate: Gate) -> Decision | Exception:
        try:
            return ask_of(gate)(request, root)
        except StreamError:
            raise
        except Exception as error:
            return error

    waiting = [place for place, gate in enumerate(gates) if not (len(gates) > 1 and gate.recall(request))]
    for place in sorted({*range(len(gates))} - {*waiting}):
        yield place, outcome_of(gates[place])
    if len(waiting) == 1:
        yield waiting[0], outcome_of(gates[waiting[0]])
        return
    asked = {gevent.spawn(outcome_of, gates[place]): place for place in waiting}
    try:
        for done in gevent.iwait(list(asked)):
            outcome = done.get()
            if isinstance(outcome, gevent.GreenletExit):
                # The value of a greenlet that was ended, by itself or by others: it has said nothing.
                outcome = RuntimeError("an authorizer was ended before its answer")
            yield asked[done], outcome
    finally:
        gevent.killall(list(asked), exception=QuestionEnded)
