"""Signs of life of the processes on this machine, for health probes; and which code they have."""
