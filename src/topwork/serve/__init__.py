"""A classifier as a service: HTTP for programs, a page for people."""
