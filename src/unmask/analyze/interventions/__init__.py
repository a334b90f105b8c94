"""Whether the recipes' differences survive without locality."""
