"""What makes masked diffusion learn as it does: computed on tensors, blocks and models alone."""
