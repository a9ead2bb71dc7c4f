"""A Kubernetes API and CouchDB nodes on loopback, for the demo, the tests and the benchmark."""

from couchdiscover.sandbox.box import Intercept, Proceed, Sandbox

__all__ = ["Intercept", "Proceed", "Sandbox"]
