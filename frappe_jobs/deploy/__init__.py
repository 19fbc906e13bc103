"""How a bench is run: its settings → one list of processes → the text of a process manager."""
