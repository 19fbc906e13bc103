"""One measure in each room."""
