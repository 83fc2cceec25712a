"""Why an embedded part cannot start."""


class CannotStart(Exception):
    """Carries one French sentence that says what is wrong and what to do; whoever shows it needs nothing else."""
