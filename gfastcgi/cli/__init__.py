"""The command line: `gfastcgi -f site.conf` in lighttpd's manner, and the commands of `commands.py`."""
