"""The field report: packages that people install, held against the claims."""
