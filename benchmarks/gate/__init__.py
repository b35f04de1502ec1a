"""The parts of the regression gate; ``python -m benchmarks.compare`` says what it does.

`worker` is a process of one revision, `counting` what it counts, `paired` what it times;
`revisions` finds the files, `verdict` decides, `report` tells. Nothing here imports the package
that is measured, so that it serves any project.
"""
