"""`wsgi.server` in a configuration: what it means, what is at fault, and which paths an application has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gfastcgi import assemble, lighttpd
from gfastcgi.config import Config, Extension, HostConfig, Settings, WSGIMount
from gfastcgi.errors import ConfigError
from gfastcgi.request import Request
from gfastcgi.server.wsgi import PulledAnswer
from gfastcgi.site import Mounting, Own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any

HEAD = 'server.document-root = "/srv"\n'


def load(text: str, folder: Path) -> Config:
    config, warnings = lighttpd.loads(HEAD + text, str(folder / "site.conf"))
    assert not warnings
    assemble.build(config)
    return config


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('wsgi.server = ( "/a" => "no_such_module:app" )', '"/a" => "no_such_module:app": ModuleNotFoundError'),
        ('wsgi.server = ( "/a" => "json:none" )', '"json:none": AttributeError'),
        ('wsgi.server = ( "/a" => "json:__all__" )', "is no function, but ["),
        ('wsgi.server = ( "/a" => "broken_mount:app" )', '"broken_mount:app": ZeroDivisionError'),
        ('wsgi.server = ( "/a" => "json" )', 'wsgi.server: "/a" takes "package.module:name", found "json"'),
        ('wsgi.server = ( "/a" => 1 )', 'wsgi.server: "/a" takes "package.module:name", found 1'),
        ('wsgi.server = ( ".py" => "json:loads" )', "an application has a prefix"),
        ('wsgi.server = ( "json:loads" )', "an application has a prefix"),
        ('wsgi.server = ( "/a" => "json:loads", "/a/b" => "json:dumps" )', '"/a/b" is never reached'),
        ('wsgi.server = "json:loads"', "wsgi.server takes applications by prefix like"),
        ('$HTTP["host"] == "a" { wsgi.server = ( "/a" => "no_such_module:app" ) }', "no_such_module"),
    ],
)
def test_faults_have_their_place(tmp_path: Path, line: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    (tmp_path / "broken_mount.py").write_text("1 / 0")
    with pytest.raises(ConfigError) as caught:
        load(line, tmp_path)
    error = getattr(caught.value, "errors", [caught.value])[0]
    assert (error.filename, error.lineno) == (str(tmp_path / "site.conf"), 2)
    assert fault in error.message


def test_a_module_lies_beside_the_file_from_wherever_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.chdir(tmp_path)
    for name in ("mount_beside", "gate_beside"):
        (tmp_path / f"{name}.py").write_text("def call(*arguments): pass")
    config, _ = lighttpd.loads(
        HEAD + 'wsgi.server = ( "/a" => "mount_beside:call" )\n'
        'fastcgi.server = ( "/b" => (( "mode" => "authorizer", "python" => "gate_beside:call" )) )',
        "site.conf",
    )
    assemble.build(config)


def test_it_is_printed_as_it_was_read(tmp_path: Path) -> None:
    line = 'wsgi.server = ( "/a" => "json:loads", "/" => "json.decoder:JSONDecoder.decode" )'
    assert line in lighttpd.render(load(line, tmp_path))


@pytest.mark.parametrize(
    ("key", "path", "expected"),
    [
        ("/app", "/app", ("/app", "")),
        ("/app", "/app/", ("/app", "/")),
        ("/app", "/app/x/y", ("/app", "/x/y")),
        ("/app", "/apple", None),
        ("/app", "/ap", None),
        ("/app/", "/app", None),
        ("/app/", "/app/x", ("/app", "/x")),
        ("/", "/x", ("", "/x")),
        ("/", "/", ("", "/")),
    ],
)
def test_which_paths_it_has(key: str, path: str, expected: tuple[str, str] | None) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return []

    built = assemble.build(Config(settings=Settings(document_root="/srv", wsgi_server=(WSGIMount(key, app),))))
    site, _ = built.sites.find(Request.__new__(Request))
    place = site.locate(path)
    found = place.to if isinstance(place.to, Mounting) else None
    assert (None if found is None else (found.route.script_name, found.route.path_info)) == expected
    assert found is None or found.app.name == "test_mounts:app"


def test_gates_and_denials_stand_before_it() -> None:
    gate = HostConfig(mode="authorizer", socket="/nowhere.sock", recheck=7)
    settings = Settings(
        document_root="/srv",
        wsgi_server=(WSGIMount("/app", lambda environ, start_response: []),),
        extensions=(Extension("/app/private/", (gate,)), Extension(".key", (gate,))),
        access_deny=("~",),
    )
    site, _ = assemble.build(Config(settings=settings)).sites.find(Request.__new__(Request))
    places = {path: site.locate(path) for path in ("/app/x", "/app/private/x", "/app/x.key", "/app/x~")}
    assert [isinstance(place.to, Mounting) for place in places.values()] == [True, True, True, False]
    assert [[gate.key for gate in place.gates] for place in places.values()] == [[], ["/app/private/"], [".key"], []]
    assert [place.recheck for place in places.values()] == [0, 7, 7, 0]
    assert places["/app/x~"].to is Own.DENIAL


def begin(app: Callable[..., Any]) -> tuple[PulledAnswer, bytes | None]:
    answer = PulledAnswer()
    return answer, answer.begin(app, {})


def test_a_generator_runs_up_to_its_first_piece() -> None:
    steps: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("A", "1")])
        yield b""
        yield b"one"
        steps.append("two")
        yield b"two"

    answer, whole = begin(app)
    assert (whole, answer.status, answer.fields, steps) == (None, "200 OK", [("A", "1")], [])
    assert list(answer) == [b"one", b"two"]


def test_write_is_not_for_iterables() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        yield b"one"
        write(b"two")

    answer, _ = begin(app)
    with pytest.raises(AssertionError, match="from within the iterable"):
        list(answer)


def test_a_head_that_is_out_is_not_replaced() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])(b"begun")
        try:
            raise KeyError("late")
        except KeyError as error:
            start_response("500 Oops", [], (KeyError, error, error.__traceback__))
        return []

    with pytest.raises(KeyError, match="late"):
        begin(app)


def test_what_fails_is_closed() -> None:
    class Body:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            yield b"without start_response"

        def close(self) -> None:
            self.closed += 1

    body = Body()
    with pytest.raises(AssertionError, match="has not called start_response"):
        begin(lambda environ, start_response: body)
    assert body.closed == 1
