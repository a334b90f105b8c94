"""What is left to learn at each mask rate, and which rates teach it."""
