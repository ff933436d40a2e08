"""Real peers and scripted doubles for the tests: processes, HTTP by hand, FastCGI by hand.

What ships for other people's tests (`gfastcgi.testing`) is used here too; none uses the codecs and parsers under test.
"""
