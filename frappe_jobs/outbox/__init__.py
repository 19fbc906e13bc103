"""Jobs that wait for a commit: rows of the transaction, sent after it.

So a transaction's work and its jobs are committed together.  A job that was committed and never
sent, as its process died, is sent from its row by a worker.
"""
