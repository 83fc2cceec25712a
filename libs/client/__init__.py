"""A small client of Maillon's services (`client.py`) and the `maillon` command line (`cli.py`).

Owns nothing, says nothing; hears any stream its token may read, by the feed.
"""
