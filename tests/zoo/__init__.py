"""Models that people use, with the order of their symmetry worked out by hand from their configuration."""
