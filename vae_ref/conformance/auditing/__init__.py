"""Audit a training step: find its VAE by the flow of data, and judge it, in whatever form it is.

`recorder` records one execution as a `graph`; `anatomy` finds noise, code, posterior, outputs and
data in it; `pieces` replays it with other numbers in their places; `judged` makes a subject of the
pieces, and `findings` says what they are. `Audit` is the whole of it, for one step.
"""
