"""kazoo's own recipes on the command line, and a look at the tree.

    kazoo_cli.py --hosts HOSTS [--digest USER:PW] [--acl USER:PW] COMMAND ...

One JSON value a line. `lock`, `join` and `audit` go on until their input has a line or ends.
"""

import argparse
import time

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.recipe.lock import Semaphore
from kazoo.recipe.party import Party, ShallowParty
from kazoo.security import make_digest_acl

from common import main, say, stopped, wait_for_stop

KINDS = {"party": Party, "shallow": ShallowParty}


def lock(client, args):
    """Takes a lease, holds it until told to stop, gives it back."""
    semaphore = Semaphore(client, args.path, args.identifier, max_leases=args.slots)
    say({"held": semaphore.acquire(blocking=not args.once, timeout=args.timeout)})
    wait_for_stop()
    say({"released": semaphore.release()})


def contend(client, args):
    """Takes and gives back again and again until told to stop; a line for each lease."""
    semaphore = Semaphore(client, args.path, args.identifier, max_leases=args.slots)
    count = 0
    while not stopped():
        semaphore.acquire()
        time.sleep(args.work)
        semaphore.release()
        count += 1
        say({"count": count})


def holders(client, args):
    say(Semaphore(client, args.path, max_leases=args.slots).lease_holders())


def join(client, args):
    party = KINDS[args.kind](client, args.path, args.identifier)
    party.join()
    say({"joined": party.participating})
    wait_for_stop()
    party.leave()
    say({"left": True})


def members(client, args):
    say(sorted(KINDS[args.kind](client, args.path)))


def put(client, args):
    data = bytes.fromhex(args.data) if args.hex else args.data.encode()
    client.create(args.path, data, ephemeral=args.ephemeral, makepath=True)
    say(args.path)
    if args.ephemeral:
        wait_for_stop()


def write(client, args):
    client.set(args.path, args.data.encode())
    say(args.path)


def delete(client, args):
    client.delete(args.path, recursive=True)
    say(args.path)


def tree(client, args):
    """Everything from a path on: `[{path, data, ephemeral, czxid, version, acl}]`; a path that is missing is nothing."""
    found = []

    def visit(path):
        try:
            data, stat = client.get(path)
            acl, _ = client.get_acls(path)
            children = sorted(client.get_children(path))
        except NoNodeError:
            return
        found.append(
            {
                "path": path,
                "data": data.decode("utf-8", "replace"),
                "ephemeral": stat.ephemeralOwner != 0,
                "czxid": stat.czxid,
                "version": stat.version,
                "acl": [[entry.perms, entry.id.scheme, entry.id.id] for entry in acl],
            }
        )
        for child in children:
            visit(path.rstrip("/") + "/" + child)

    visit(args.path)
    say(found)


def children(client, path):
    try:
        return len(client.get_children(path))
    except NoNodeError:
        return 0


def audit(client, args):
    """Counts leases and contenders until told to stop, then says the most that it saw, and how often it looked."""
    seen = {"samples": 0, "most": 0, "over": 0, "busy": 0, "most_queued": 0}
    say({"watching": args.path})
    while not stopped():
        leases = children(client, args.path)
        seen["samples"] += 1
        seen["most"] = max(seen["most"], leases)
        seen["over"] += leases > args.slots
        seen["busy"] += leases > 0
        if seen["samples"] % 8 == 0:
            seen["most_queued"] = max(seen["most_queued"], children(client, args.path + "-__lock__"))
    say(seen)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--digest")
    parser.add_argument("--acl")
    parser.add_argument("--session", type=float, default=10.0)
    commands = parser.add_subparsers(required=True)

    def command(run, *names, slots=False):
        sub = commands.add_parser(run.__name__)
        sub.set_defaults(run=run)
        for name in names:
            sub.add_argument(name)
        if slots:
            sub.add_argument("--slots", type=int, default=1)
        return sub

    sub = command(lock, "path", "identifier", slots=True)
    sub.add_argument("--timeout", type=float)
    sub.add_argument("--once", action="store_true")
    command(contend, "path", "identifier", slots=True).add_argument("--work", type=float, default=0.0)
    command(holders, "path", slots=True)
    command(audit, "path", slots=True)
    command(join, "path", "identifier").add_argument("--kind", choices=KINDS, default="shallow")
    command(members, "path").add_argument("--kind", choices=KINDS, default="shallow")
    sub = command(put, "path", "data")
    sub.add_argument("--ephemeral", action="store_true")
    sub.add_argument("--hex", action="store_true")
    command(write, "path", "data")
    command(delete, "path")
    command(tree, "path")
    return parser.parse_args()


def run():
    args = arguments()
    client = KazooClient(
        hosts=args.hosts,
        timeout=args.session,
        auth_data=[("digest", args.digest)] if args.digest else None,
        default_acl=[make_digest_acl(*args.acl.split(":", 1), all=True)] if args.acl else None,
    )
    client.start()
    try:
        args.run(client, args)
    finally:
        client.stop()


if __name__ == "__main__":
    main(run)
