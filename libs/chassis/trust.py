"""Which certificates this process trusts when it calls by HTTPS."""

import os
import ssl
from functools import cache

import httpx


def trusted() -> ssl.SSLContext:
    """certifi's, or those that SSL_CERT_FILE or SSL_CERT_DIR name. Read once per process: it takes 35 ms, and a service has six clients."""
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The arguments are what httpx reads from the environment by itself."""
    return httpx.create_ssl_context()
