"""A regression gate for pull requests, in any project: ``vae-ref-gate compare BASE``.

`config` reads what a project wants measured, and `revisions` finds the files of a revision.
`worker` is a process that runs one; it, `counting` and `tracing` are loaded by their paths and
import nothing of this package. `paired` times several processes in turns. `verdict` decides, and
`causes` names the line. `comparison` puts it together, and `report` shows the result. `history`
remembers commits, and `trend` draws them.
"""
