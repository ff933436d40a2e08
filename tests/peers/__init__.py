"""Real peers and scripted doubles for the tests: processes, HTTP by hand, FastCGI by hand. None imports gfastcgi."""
