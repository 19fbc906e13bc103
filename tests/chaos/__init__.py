"""What must hold while everything goes wrong: a room for each way, on real workers and servers.

``make chaos`` runs the full form and prints a report; ``make test`` a short form of each.  Chance
comes from a seed alone, which is printed: ``make chaos CHAOS_SEED=7`` repeats a run's choices.
"""
