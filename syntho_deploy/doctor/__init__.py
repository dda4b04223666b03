"""What `invoke doctor` asks of the cluster, the machine and the services outside, read-only."""
