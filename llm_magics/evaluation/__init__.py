"""Which way of asking helps, and by how much: methods, scores, statistics, leakage."""
