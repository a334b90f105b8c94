"""The studies behind ``unmask analyze``: they open runs, compute, and write records and a page."""
