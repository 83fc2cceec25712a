"""Worklists: what waits for a social worker, a coordinator, a partner, and what the police follows; by filters, with counts, a page at a time."""
