"""The one place that imports boto: SES's client, its error table, the account."""
