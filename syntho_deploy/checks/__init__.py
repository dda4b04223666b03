"""What lint forbids: one function a rule, named for what it forbids, in modules by what they look at."""
