"""From what a caller hands over to what the ledger keeps: content, rows and wake-ups."""
