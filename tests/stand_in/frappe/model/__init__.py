"""Its model, as far as it is needed."""
