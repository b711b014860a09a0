"""{{name}}: leaves a pause between one start and the next."""

import json

from wit_world import exports
from wit_world.imports.types import (
    Admission_Lock, Admission_Wait, Admitted, Happening, Manifest, Settled, Settlement_Release,
)

SETTINGS = {
    "type": "object",
    "properties": {
        "pause-seconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": 86400,
            "description": "How long nothing starts after a start.",
        },
    },
    "required": ["pause-seconds"],
    "additionalProperties": False,
}


def floor(view):
    """Members that would remain, and how many must: everybody of this run who holds a slot may be down."""
    if view.party is None:
        return 0, 0
    leaving = {lease.identifier for lease in view.semaphore.leases} | {view.target.name}
    remaining = sum(member.identifier not in leaving for member in view.party.members)
    return remaining, view.party.min_members


class Decider(exports.Decider):
    def describe(self):
        return Manifest(
            name="{{name}}",
            version="0.1.0",
            summary="Leaves a pause between one start and the next",
            settings_schema=json.dumps(SETTINGS),
            verdicts=["lock", "wait", "release"],
        )

    def validate(self, settings):
        # Beyond the schema, which the host has looked at: rules across settings.
        return []

    def admit(self, settings, view, memory):
        remaining, least = floor(view)
        if remaining < least:
            reason = f"{remaining} members would remain, the floor is {least}"
            return Admitted(Admission_Wait(), "below-floor", reason, None, memory)
        pause = json.loads(settings)["pause-seconds"] * 1000
        last = max((event.at for event in view.events if event.what == Happening.STARTED), default=0)
        left = last + pause - view.now
        if left > 0:
            reason = f"a pause of {pause // 1000} s after the last start"
            return Admitted(Admission_Wait(), "pause", reason, left, memory)
        return Admitted(Admission_Lock(), "no-pause", "the last start is long enough ago", None, memory)

    def settle(self, settings, view, outcome, memory):
        return Settled(Settlement_Release(), outcome.ending.name.lower(), "the slot is given back", memory)
