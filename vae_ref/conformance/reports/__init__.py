"""A report in words: on the terminal, as JSON, JUnit and HTML, with charts."""
