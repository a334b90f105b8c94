"""The denoiser and its causal twin."""
