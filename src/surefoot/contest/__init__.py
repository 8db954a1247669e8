"""The comparison of schedules: what is trained, and where its data come from."""
