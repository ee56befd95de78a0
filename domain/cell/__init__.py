"""The cell, as each of its partitions knows it: which formats are enabled."""
