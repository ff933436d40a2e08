"""Spawned backends: processes that hold their listening socket as descriptor 0, watched, started again, and ended."""
