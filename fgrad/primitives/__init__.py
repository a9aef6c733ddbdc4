"""The primitives: one family a file, every rule of a primitive in one place, one table at the end of each file."""
