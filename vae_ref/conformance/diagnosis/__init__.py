"""The diagnosis: from the failures of a run to the name of the bug."""
