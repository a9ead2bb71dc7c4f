"""Assembles the CouchDB nodes of a Kubernetes StatefulSet into one verified cluster."""

__version__ = "1.0.0"
