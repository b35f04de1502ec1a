"""Golden vectors: inputs with right answers of 40 digits, for implementations in any language."""
