"""How many jobs run at once, or begin in a time: what is declared, and how it is spelt."""
