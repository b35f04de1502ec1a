"""The right answers: closed forms, statistics, intervals, and the comparison with them."""
