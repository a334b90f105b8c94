"""A page in the browser on which one watches texts unmask."""
