"""Authorizers in front of WSGI: a middleware for any application, and an application that serves a private docroot."""
