"""Backends: hosts and their procs, what state each is in, and who gets which connection.

Pure: it does no I/O, and the clock is given.
"""
