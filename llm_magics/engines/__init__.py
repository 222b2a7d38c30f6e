"""What runs a model: one file a backend. The only place that knows model libraries."""
