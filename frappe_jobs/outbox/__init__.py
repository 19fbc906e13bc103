"""Jobs that wait for a commit: rows of the transaction, sent after it, by whoever is there to.

The commit makes the transaction's work and its jobs true together.  What was committed and never
sent, as its process died, is sent from the row.
"""
