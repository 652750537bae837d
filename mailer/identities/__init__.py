"""Identities and configuration sets, as SES knows them: may this sender send, and to whom? It fails closed."""
