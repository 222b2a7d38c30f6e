"""Fine-tuning: rows in, an adapter out, in a process of its own that can be stopped and resumed."""
