"""How a figure and a page look; knows no records."""
