"""Training: the loop, optimisers, checkpoints and records; a file for each job."""
