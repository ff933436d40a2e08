"""The parts of the gateway for any program that runs on gevent: `Pool`, `Client`, `FastCGIApp`, `Gateway`."""
