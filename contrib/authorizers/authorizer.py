"""An authorizer in Python: lets through who comes with the cookie SID of a session.

Run by "bin-path" => "PYTHON authorizer.py" with the Python that has gfastcgi. The folder SESSIONS ("bin-environment")
holds a file for each session: its name is the session's secret of 16 to 64 letters and digits, its first line the user.
docs/authorizers.md says what is asked and what follows from answers.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import webob

from gfastcgi.server.fastcgi import run

# Nothing but letters and digits: it becomes a file's name.
SESSION = re.compile(r"[A-Za-z0-9]{16,64}")
USER = re.compile(r"[ -~]+")


class Authorizer:
    """Answers 200 to requests of a session, else 403."""

    def __init__(self, sessions: Path) -> None:
        self._sessions = sessions

    def __call__(self, request: webob.Request) -> webob.Response:
        user = self.find_user(request.cookies.get("SID", ""))
        if user is None:
            return webob.Response("Please log in.\n", status=403, content_type="text/plain", cache_control="no-store")
        # Where the gateway keeps decisions ("cache"): this one for a minute. A yes for all that lies in a folder would
        # be the field ("Variable-GFASTCGI_GRANT", "path=/maps/12/; ttl=300").
        return webob.Response(headerlist=[("Variable-REMOTE_USER", user), ("Cache-Control", "max-age=60")])

    def find_user(self, session: str) -> str | None:
        """The user of a session, or None."""
        if not SESSION.fullmatch(session):
            return None
        try:
            line = USER.match((self._sessions / session).read_text("utf-8", "replace"))
        except OSError:
            return None
        return line[0] if line else None


if __name__ == "__main__":
    folder = os.environ.get("SESSIONS", "")
    if not os.path.isdir(folder):
        sys.exit("authorizer: no folder SESSIONS in the environment")
    run(authorizer=Authorizer(Path(folder)))
