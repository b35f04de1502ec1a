"""A report in words, on the terminal, in files, as a page with charts."""
