"""What each port promises, on each of its adapters."""
