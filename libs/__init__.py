"""What the services share: contracts (words), chassis (how a service stands), embedded (one-machine default), client (callers)."""
