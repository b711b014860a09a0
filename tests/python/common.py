"""What the scripts share: how they answer, and how they are told to stop."""

import json
import select
import sys


def say(value):
    print(json.dumps(value, ensure_ascii=False), flush=True)


def stopped(seconds=0.0):
    """Whether our input has ended or has a line; waits so long for it."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready)


def wait_for_stop():
    sys.stdin.readline()


def main(run, end=sys.exit):
    """Runs it, and ends; an exception becomes one JSON object and the exit code 1."""
    try:
        run()
    except Exception as error:  # pylint: disable=broad-except
        say({"error": type(error).__name__, "message": str(error)})
        end(1)
    end(0)
