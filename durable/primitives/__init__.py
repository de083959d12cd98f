"""What authors of workflows and activities call: one primitive a file."""
