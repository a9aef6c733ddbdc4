"""What each transformation does to operations and to jaxprs."""
