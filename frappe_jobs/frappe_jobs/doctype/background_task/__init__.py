"""Background Task: the record of a tracked job."""
