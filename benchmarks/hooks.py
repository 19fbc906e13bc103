"""What the app of these jobs tells frappe_jobs: nothing."""
