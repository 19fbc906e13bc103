"""What a job does once, however often it runs, in its site's database."""
