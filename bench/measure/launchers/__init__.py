"""Programs that start ranks: what they leave in the environment, and where rank 0 is. No torch."""
