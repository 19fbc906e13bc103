"""What has happened to jobs, by minute and hour: counted in the ledger's steps, folded, read."""
