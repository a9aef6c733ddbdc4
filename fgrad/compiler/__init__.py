"""The CPU compiler: jaxpr -> simplify -> fuse -> plan -> emit -> program."""
