"""The way to Redis: what a URL says, connections that outlive a fail-over, and what an error of theirs means."""
