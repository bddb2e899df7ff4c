"""One machine as a cluster: private PostgreSQL and Redis, nodes as namespaces, the demonstration. Imports no app."""
