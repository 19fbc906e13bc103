"""The Desk's page of the site's jobs."""
