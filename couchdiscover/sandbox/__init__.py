"""A Kubernetes API and CouchDB nodes on loopback: what the demo, the tests and the benchmark run on."""
