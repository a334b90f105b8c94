"""How near the information about a token sits."""
