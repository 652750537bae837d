"""Programs that call all that is public, for type checkers without plugins (tests/unit/test_typed.py). They are not run."""
