from gfastcgi_balance_first import First

from gfastcgi.balance.conformance import check


def test_it_is_a_balance() -> None:
    check(First)
