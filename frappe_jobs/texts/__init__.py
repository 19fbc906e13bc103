"""Texts for people and servers: safe, bounded, masked."""
