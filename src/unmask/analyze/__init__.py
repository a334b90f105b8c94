"""Why masked diffusion learns as it does: each analysis measures, records and shows."""
