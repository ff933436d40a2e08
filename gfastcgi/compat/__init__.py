"""Other servers' interfaces, so that programs written for them run here unchanged."""
