"""A Django site in one file over FastCGI; a site of your own is `gfastcgi wsgi mysite.wsgi:application`.

    gfastcgi wsgi django_site --bind unix:/run/django.sock --workers 2 --threads 8

Django waits for its database: `--threads` keeps what waits from stopping all other requests.
"""

from __future__ import annotations

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    ROOT_URLCONF=__name__,
    SECRET_KEY="for an example only",
    USE_TZ=True,
)
django.setup()


def index(request: HttpRequest) -> HttpResponse:
    """Where the site is: below whatever prefix the web server gave it."""
    greeting = reverse("hello", args=["you"])
    return HttpResponse(f"django at {reverse('index')}, a greeting at {greeting}\n", content_type="text/plain")


def hello(request: HttpRequest, name: str) -> HttpResponse:
    """REMOTE_USER is there when an authorizer said so."""
    return HttpResponse(f"hello {name} from {request.META.get('REMOTE_USER') or 'nobody'}\n", content_type="text/plain")


def count(request: HttpRequest) -> JsonResponse:
    """An upload, read as it comes."""
    return JsonResponse({"bytes": sum(len(piece) for piece in iter(lambda: request.read(65536), b""))})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """An answer that is sent as it is made."""
    return StreamingHttpResponse((f"line {number}\n" for number in range(3)), content_type="text/plain")


urlpatterns = [
    path("", index, name="index"),
    path("hello/<name>", hello, name="hello"),
    path("count", count),
    path("stream", stream),
]
application = get_wsgi_application()
