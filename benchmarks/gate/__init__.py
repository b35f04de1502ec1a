"""The parts of the regression gate, which ``python -m benchmarks.compare`` runs.

`revisions` finds the files of a revision, and `worker` is a process that runs it. `paired` times
several of them in turns, and `counting` counts what a call does. `verdict` decides, and `report`
shows the result. Nothing here imports the package that is measured, so it works for any project.
"""
