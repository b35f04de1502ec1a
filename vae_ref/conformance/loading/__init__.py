"""Make a subject of a file, a module or a class."""
