"""`make proof`: nothing that was acknowledged is lost, doubled or out of order, whatever is killed. See `__main__`."""
