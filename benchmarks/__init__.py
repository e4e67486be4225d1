"""How fast training, evaluation and matching are, against the loop that everybody writes; `make bench`."""
