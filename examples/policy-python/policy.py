"""cool-down: after a failure nothing goes for a while where it happened: in that rack, that zone, or whatever label is set."""

import json

from wit_world import exports
from wit_world.imports.types import (
    Admission_Lock, Admission_Wait, Admitted, Diagnostic, Ending, Manifest, Settled, Settlement_Release, Severity,
)

SETTINGS = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "description": "The label that says where a target is, such as `rack`."},
        "seconds": {
            "type": "integer",
            "minimum": 1,
            "maximum": 86400,
            "description": "How long nothing goes there after a failure.",
        },
    },
    "required": ["label", "seconds"],
    "additionalProperties": False,
}

FAILED = {Ending.FAILED, Ending.TIMED_OUT, Ending.UNKNOWN}


def place(target, settings):
    """Where a target is; those without the label are together."""
    return next((label.value for label in target.labels if label.key == settings["label"]), "")


def failures(memory):
    """When the last failure was, by place: all that is known of others, since a view shows one target's labels."""
    return json.loads(memory) if memory else {}


class Decider(exports.Decider):
    def describe(self):
        return Manifest(
            name="cool-down",
            version="1.0.0",
            summary="After a failure nothing goes for a while where it happened",
            settings_schema=json.dumps(SETTINGS),
            verdicts=["lock", "wait", "release"],
        )

    def validate(self, settings):
        # The schema has been looked at. This is what it cannot say.
        label = json.loads(settings)["label"]
        if label.strip() != label or not label:
            return [Diagnostic(Severity.ERROR, "label", f"{label!r} is no label's key", "write it such as `rack`")]
        return []

    def admit(self, settings, view, memory):
        settings = json.loads(settings)
        where = place(view.target, settings)
        failed = failures(memory).get(where)
        left = 0 if failed is None else failed + settings["seconds"] * 1000 - view.now
        if left > 0:
            reason = f"a target failed where {settings['label']} is {where!r}"
            return Admitted(Admission_Wait(), "cooling-down", reason, left, memory)
        return Admitted(Admission_Lock(), "calm", f"no failure lately where {settings['label']} is {where!r}", None, memory)

    def settle(self, settings, view, outcome, memory):
        code = outcome.ending.name.lower().replace("_", "-")
        if outcome.ending in FAILED:
            known = failures(memory)
            known[place(view.target, json.loads(settings))] = view.now
            memory = json.dumps(known, sort_keys=True).encode()
        return Settled(Settlement_Release(), code, "the slot is given back", memory)
