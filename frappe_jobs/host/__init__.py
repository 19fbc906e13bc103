"""The ports to where jobs run."""
