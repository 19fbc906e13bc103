"""The pages: what they show, who may see and do what, how they look in a browser."""
