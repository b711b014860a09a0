"""kazoo's side of `cargo xtask bench zookeeper`: its own Semaphore, in as many processes and sessions as are asked for.

What is said on standard input and output is told in xtask/bench/src/child.rs.
"""

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time

from kazoo.client import KazooClient


def micros():
    return time.monotonic_ns() // 1000


def say(line):
    print(line, flush=True)


def heard(word):
    line = sys.stdin.readline().strip()
    if line != word:
        os._exit(0 if line == "" else 1)


def connect(options, count):
    clients = [KazooClient(hosts=options.server, timeout=options.session_ms / 1000) for _ in range(count)]
    for client in clients:
        client.start(timeout=60)
    return clients


def stop(clients):
    closing = [threading.Thread(target=client.stop, daemon=True) for client in clients]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(5)


def cycle(semaphore, work):
    asked = micros()
    semaphore.acquire()
    got = micros()
    if work > 0:
        time.sleep(work)
    releasing = micros()
    semaphore.release()
    return (asked, got, releasing, micros())


def loop(semaphore, options, ending, cycles):
    try:
        while not ending.is_set():
            cycles.append(cycle(semaphore, options.work_ms / 1000))
            if options.once:
                return
    except Exception:
        if not ending.is_set():
            raise


def worker(options, callers, sessions, pipe):
    """The callers of one process: ready, then a window of time, then what they did in it."""
    threading.stack_size(256 * 1024)
    clients = connect(options, sessions)
    semaphores = [
        clients[number % sessions].Semaphore(options.path, "caller-%d" % number, max_leases=options.slots)
        for number in range(callers)
    ]
    ending, cycles = threading.Event(), []
    for semaphore in semaphores:
        thread = threading.Thread(target=loop, args=(semaphore, options, ending, cycles), daemon=True)
        thread.start()
    pipe.send("ready")
    pipe.recv()
    pipe.send(list(cycles))
    pipe.recv()
    ending.set()
    stop(clients)
    os._exit(0)


def many(options):
    workers = []
    for number in range(options.processes):
        here, there = multiprocessing.Pipe()
        share = [total // options.processes + (number < total % options.processes)
                 for total in (options.callers, options.sessions)]
        process = multiprocessing.Process(target=worker, args=(options, share[0], share[1], there), daemon=True)
        process.start()
        workers.append((process, here))
    for _, pipe in workers:
        pipe.recv()
    say("ready")
    heard("go")
    begin = micros()
    time.sleep(options.seconds)
    end = micros()
    say("end")
    for _, pipe in workers:
        pipe.send("collect")
    cycles = [cycle for _, pipe in workers for cycle in pipe.recv() if begin <= cycle[1] < end]
    say(json.dumps({"begin": begin, "end": end, "cycles": cycles}))
    heard("close")
    for process, pipe in workers:
        pipe.send("close")
    for process, _ in workers:
        process.join(10)


def one(options):
    """One caller alone, whose every request falls into the window."""
    clients = connect(options, 1)
    semaphore = clients[0].Semaphore(options.path, "caller", max_leases=options.slots)
    warm = time.monotonic() + options.warm_ms / 1000
    for _ in range(3):
        cycle(semaphore, 0)
    while time.monotonic() < warm:
        cycle(semaphore, 0)
    say("ready")
    heard("go")
    begin, cycles = micros(), []
    while micros() < begin + options.seconds * 1e6:
        cycles.append(cycle(semaphore, options.work_ms / 1000))
    end = micros()
    say("end")
    say(json.dumps({"begin": begin, "end": end, "cycles": cycles}))
    heard("close")
    stop(clients)


def holders(options):
    clients = connect(options, 1)
    semaphore = clients[0].Semaphore(options.path, "reader", max_leases=options.slots)
    say("ready")
    heard("go")
    begin, times, found = micros(), [], 0
    while micros() < begin + options.seconds * 1e6 or not times:
        started = micros()
        found = len(semaphore.lease_holders())
        times.append(micros() - started)
    say("end")
    say(json.dumps({"times": times, "found": found}))
    heard("close")
    stop(clients)


def lost(options):
    clients = connect(options, 1)
    semaphore = clients[0].Semaphore(options.path, "holder", max_leases=options.slots)
    semaphore.acquire()
    clients[0].add_listener(lambda state: say(state.lower()))
    say("ready")
    heard("close")
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=["contend", "holders", "lost"])
    parser.add_argument("--server", required=True)
    parser.add_argument("--path", required=True)
    for name, default in [("slots", 1), ("callers", 1), ("sessions", 1), ("processes", 1), ("work-ms", 0),
                          ("warm-ms", 0), ("session-ms", 10000)]:
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    if options.scenario == "contend":
        (one if options.callers == 1 else many)(options)
    else:
        {"holders": holders, "lost": lost}[options.scenario](options)


if __name__ == "__main__":
    main()
