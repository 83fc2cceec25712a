"""What the log of facts comes to: rows as they are now, how each event changes them, the counters made of them, and all three in the database."""
