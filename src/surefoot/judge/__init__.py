"""What a policy is worth on problems that it has never seen: `surefoot judge`."""
