"""From a file, a module or a class to a subject."""
