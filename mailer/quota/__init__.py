"""The quota of an AWS account, shared by all processes: recipients per second, recipients in 24 hours, calls of SendBulkEmail."""
