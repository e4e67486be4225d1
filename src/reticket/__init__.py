"""reticket: reissue a lottery ticket for a new random initialisation."""

__version__ = "0.1.0"
