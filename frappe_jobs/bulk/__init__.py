"""Many jobs at once: those that were shown, retried, cancelled or deleted."""
