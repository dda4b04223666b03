"""What must not leak: sentinels in renders, the sources of values, the Secrets in the cluster."""
