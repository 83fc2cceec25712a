"""The rights of persons: refusal, erasure and who acknowledged it (by a stream or by hand), retention."""
