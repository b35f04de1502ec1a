"""From failures to the name of the bug."""
