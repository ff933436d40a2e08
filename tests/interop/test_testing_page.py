"""docs/testing.md, run by a pytest of its own as whoever reads the page would run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
PAGE = (Path(__file__).parents[2] / "docs/testing.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def test_the_page(pytester: pytest.Pytester) -> None:
    for name, text in FILES.items():
        pytester.path.joinpath(name).write_text(text)
    result = pytester.runpytest_subprocess("-W", "error")
    result.assert_outcomes(passed=8)


def test_what_goes_wrong_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    """A script that raises; a gateway that was killed by somebody; one that does not start."""
    pytester.makepyfile(
        test_wrong=r"""
        import pytest

        SITE = 'fastcgi.server = ( "/" => (( {}, "check-local" => "disable" )) )'

        def test_script(gfastcgi_fpm, gfastcgi_gateway):
            site = gfastcgi_gateway(SITE.format(gfastcgi_fpm(lambda asked: 1 / 0).option))
            assert site.get("/").status_int == 502

        def test_gateway(gfastcgi_gateway):
            gfastcgi_gateway().terminate(9)

        def test_start(gfastcgi_gateway):
            with pytest.raises(AssertionError, match="ended with 255(.|\n)*server.document-root"):
                gfastcgi_gateway("server.document-root = 1")
        """
    )
    result = pytester.runpytest_subprocess("-p", "gfastcgi.testing")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*ZeroDivisionError('division by zero')*", "*exit status -9*"])
