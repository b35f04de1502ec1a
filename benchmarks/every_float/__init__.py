"""Compare functions of one float with correctly rounded answers, for every float there is."""
