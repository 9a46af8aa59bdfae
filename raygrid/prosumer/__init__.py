"""Device models, populations as structures of arrays, batched local solvers."""
