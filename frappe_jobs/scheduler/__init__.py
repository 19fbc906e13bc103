"""The schedule: what is due when, in line with the sites' records."""
