"""Recipes side by side: the same data, seeds and evaluation; steps and seconds to a level."""
