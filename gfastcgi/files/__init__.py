"""Files as answers: static files of a document root, and those that a backend names by X-Sendfile or X-Accel-Redirect.

Contract: what is sent was opened beneath its root and is a regular file; its length comes from that descriptor.
An answer's `app_iter` may be a `FileBody`, which has to be closed. Index files and routes are the gateway's business.
"""

from gfastcgi.files.static import answer_options, serve_file, serve_resource
from gfastcgi.files.xaccel import apply_x_accel_redirect
from gfastcgi.files.xsendfile import apply_x_sendfile

__all__ = ["answer_options", "apply_x_accel_redirect", "apply_x_sendfile", "serve_file", "serve_resource"]
