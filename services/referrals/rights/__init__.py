"""The rights of persons: refusal, erasure and who acknowledged it, retention."""
