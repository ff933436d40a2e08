"""`gfastcgi conformance`: a scripted authorizer, a private file behind it, and what any gateway makes of the two.

Plan: `rows` is the literal table of answers and of what has to follow, `peer` answers as a row says, `bench` starts
the gateway under test with a door of its own for each row, asks over HTTP, and judges.
"""
