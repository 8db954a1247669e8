"""The command that learns policies: several seeds at once, told live, and what is shown of it in the end."""
