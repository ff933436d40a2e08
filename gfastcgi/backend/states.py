"""The states of a proc, as a table: an absent key is a move that cannot happen, and so a bug of ours.

Contract: only a RUNNING proc gets requests. OVERLOADED and DISABLED end by themselves after `"disable-time"`; UNSET,
DIED and KILLED end when the supervisor starts the process; UNHEALTHY ends when `"health-check"` says so. The numbers
are those of lighttpd's debug lines, which know no UNHEALTHY.
"""

from __future__ import annotations

from enum import IntEnum

from gfastcgi.errors import LocalProtocolError

__all__ = ["Event", "State", "next_state"]


class State(IntEnum):
    """What a proc is doing."""

    UNSET = 0
    """Not started yet."""
    RUNNING = 1
    OVERLOADED = 2
    """It answered OVERLOADED, and rests."""
    DISABLED = 3
    """It could not be reached, and rests."""
    DIED = 4
    """Its process ended, and the supervisor will start it again."""
    KILLED = 5
    """Its process was stopped by us."""
    UNHEALTHY = 6
    """It failed its health checks."""


class Event(IntEnum):
    """What happens to a proc."""

    STARTED = 0
    OVERLOADED = 1
    FAILED = 2
    RESTED = 3
    EXITED = 4
    STOPPED = 5
    UNHEALTHY = 6
    HEALTHY = 7


# A lease outlives the state that it was given in: FAILED and OVERLOADED may come late, and then change nothing.
_MOVES: dict[tuple[State, Event], State] = {
    (State.UNSET, Event.STARTED): State.RUNNING,
    (State.UNSET, Event.EXITED): State.DIED,
    (State.UNSET, Event.STOPPED): State.KILLED,
    (State.RUNNING, Event.OVERLOADED): State.OVERLOADED,
    (State.RUNNING, Event.FAILED): State.DISABLED,
    (State.RUNNING, Event.EXITED): State.DIED,
    (State.RUNNING, Event.STOPPED): State.KILLED,
    (State.RUNNING, Event.UNHEALTHY): State.UNHEALTHY,
    (State.OVERLOADED, Event.STARTED): State.RUNNING,
    (State.OVERLOADED, Event.RESTED): State.RUNNING,
    (State.OVERLOADED, Event.OVERLOADED): State.OVERLOADED,
    (State.OVERLOADED, Event.FAILED): State.DISABLED,
    (State.OVERLOADED, Event.EXITED): State.DIED,
    (State.OVERLOADED, Event.STOPPED): State.KILLED,
    (State.OVERLOADED, Event.UNHEALTHY): State.UNHEALTHY,
    (State.DISABLED, Event.STARTED): State.RUNNING,
    (State.DISABLED, Event.RESTED): State.RUNNING,
    (State.DISABLED, Event.OVERLOADED): State.DISABLED,
    (State.DISABLED, Event.FAILED): State.DISABLED,
    (State.DISABLED, Event.EXITED): State.DIED,
    (State.DISABLED, Event.STOPPED): State.KILLED,
    (State.DISABLED, Event.UNHEALTHY): State.UNHEALTHY,
    (State.UNHEALTHY, Event.STARTED): State.RUNNING,
    (State.UNHEALTHY, Event.HEALTHY): State.RUNNING,
    (State.UNHEALTHY, Event.OVERLOADED): State.UNHEALTHY,
    (State.UNHEALTHY, Event.FAILED): State.UNHEALTHY,
    (State.UNHEALTHY, Event.EXITED): State.DIED,
    (State.UNHEALTHY, Event.STOPPED): State.KILLED,
    (State.DIED, Event.STARTED): State.RUNNING,
    (State.DIED, Event.OVERLOADED): State.DIED,
    (State.DIED, Event.FAILED): State.DIED,
    (State.DIED, Event.EXITED): State.DIED,
    (State.DIED, Event.STOPPED): State.KILLED,
    (State.KILLED, Event.STARTED): State.RUNNING,
    (State.KILLED, Event.OVERLOADED): State.KILLED,
    (State.KILLED, Event.FAILED): State.KILLED,
    (State.KILLED, Event.EXITED): State.KILLED,
    (State.KILLED, Event.STOPPED): State.KILLED,
}


def next_state(state: State, event: Event) -> State:
    """The state after `event`. Raises `LocalProtocolError` for a move that the table does not have."""
    try:
        return _MOVES[state, event]
    except KeyError:
        raise LocalProtocolError(f"a proc that is {state.name} cannot be {event.name}") from None
