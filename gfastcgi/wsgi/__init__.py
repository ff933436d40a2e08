"""WSGI in every direction: authorizers in front of applications; a private docroot, or the whole gateway, as one; and
applications in the gateway's own process.
"""
