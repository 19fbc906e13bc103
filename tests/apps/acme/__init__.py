"""The app that the tests install on their benches."""
