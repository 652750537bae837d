"""Content that is made to hold up a worker, to fill its memory or to end it; `test_worker.py` gives all of it to one."""
