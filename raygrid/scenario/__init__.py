"""Authored configuration, validation, and building a community from it."""
