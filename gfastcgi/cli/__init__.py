"""The command line: `gfastcgi -f site.conf` in lighttpd's manner, and the commands `serve`, `check` and `demo`."""
