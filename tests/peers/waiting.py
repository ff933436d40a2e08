"""Waiting for what another process does: polls a condition, with a deadline; never a sleep that hopes."""

from gfastcgi.testing.waiting import wait_until

__all__ = ["wait_until"]
