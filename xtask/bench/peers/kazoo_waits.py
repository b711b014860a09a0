"""Waits for a slot that somebody else holds: `kazoo_waits.py HOSTS PATH`. Says `waits` before it does."""

import sys
import threading

from kazoo.client import KazooClient

client = KazooClient(hosts=sys.argv[1], timeout=30)
client.start(timeout=60)
semaphore = client.Semaphore(sys.argv[2], identifier="kazoo", max_leases=1)
print("waits", flush=True)
semaphore.acquire()
# The first of them has it, and keeps it.
threading.Event().wait()
