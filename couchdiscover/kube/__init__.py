"""Kubernetes: the only owner of pykube."""
