"""The social worker at work: assignment, contacts, interviews, assessments, corrections, closing, and the timeline that they leave."""
