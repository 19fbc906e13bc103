"""What is listed of jobs, queues, scheduled jobs: the same in the commands and on the pages."""
