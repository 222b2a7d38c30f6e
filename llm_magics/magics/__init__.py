"""The magics: one class a theme. Each parses, makes one session call and one display call."""
