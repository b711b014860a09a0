"""The functions of Salt's own `zk_concurrency`, called as its loader would.

    salt_cli.py --hosts HOSTS [--digest USER:PW] [--acl USER:PW] FUNCTION ARGUMENTS

FUNCTION is `lock`, `unlock`, `lock_holders` or `party_members`, ARGUMENTS their keyword arguments as a JSON object; the answer
is printed as JSON. Like a minion's job, a process ends without closing its session. `--hold` keeps it, with its session, until
the input has a line or ends. `contend` takes and gives back until then, with a line for each lease.
"""

import argparse
import json
import os
import time

import salt.modules.zk_concurrency as zk_concurrency
from saltext.zookeeper.modules import zookeeper

from common import main, say, stopped, wait_for_stop


def login(text):
    return dict(zip(("username", "password"), text.split(":", 1)))


def contend(arguments, work):
    given_back = {key: value for key, value in arguments.items() if key not in ("timeout", "force")}
    count = 0
    while not stopped():
        if not zk_concurrency.lock(**arguments):
            raise RuntimeError("Salt's lock said False")
        time.sleep(work)
        zk_concurrency.unlock(**given_back)
        count += 1
        say({"count": count})


def run():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--digest")
    parser.add_argument("--acl")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--work", type=float, default=0.0)
    parser.add_argument("function")
    parser.add_argument("arguments", type=json.loads)
    args = parser.parse_args()

    # What the loader gives to a module.
    zk_concurrency.__context__ = {}
    zk_concurrency.__opts__ = {}
    zk_concurrency.__salt__ = {
        "config.get": lambda key, default=None: default,
        "zookeeper.make_digest_acl": zookeeper.make_digest_acl,
    }
    if zk_concurrency.__virtual__() != "zk_concurrency":
        raise RuntimeError("Salt's module does not load")

    arguments = {"zk_hosts": args.hosts, **args.arguments}
    if args.digest:
        arguments.update(login(args.digest))
    if args.acl:
        arguments["default_acl"] = {**login(args.acl), "allperms": True}
    if args.function == "contend":
        contend(arguments, args.work)
    else:
        say(getattr(zk_concurrency, args.function)(**arguments))
    if args.hold:
        wait_for_stop()


if __name__ == "__main__":
    # Without a clean-up, like a minion's job: the session is left to its time-out.
    main(run, end=os._exit)
