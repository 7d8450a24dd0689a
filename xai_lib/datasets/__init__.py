"""Data whose right answer is known: generated from a seed, without a network connection."""
