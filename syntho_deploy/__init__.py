"""Takes the Syntho platform from pinned charts to a verified release. `tasks.py` is its command line."""
