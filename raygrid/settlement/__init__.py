"""Settlement of a cleared market day: meters, batches, contracts, chains, audit."""
