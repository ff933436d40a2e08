"""Sockets, timers and files under gevent: the ground that knows no protocol."""
