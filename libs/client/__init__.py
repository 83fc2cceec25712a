"""What other programs use to talk to Maillon: the `maillon` command line, and importers of public files. Speaks HTTP (httpx) only."""
