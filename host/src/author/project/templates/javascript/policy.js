// {{name}}: leaves a pause between one start and the next.

const SETTINGS = {
  type: 'object',
  properties: {
    'pause-seconds': {
      type: 'integer',
      minimum: 0,
      maximum: 86400,
      description: 'How long nothing starts after a start.',
    },
  },
  required: ['pause-seconds'],
  additionalProperties: false,
};

// Members that would remain, and how many must: everybody of this run who holds a slot may be down.
function floor(view) {
  if (view.party === undefined) return [0, 0];
  const leaving = new Set(view.semaphore.leases.map((lease) => lease.identifier)).add(view.target.name);
  return [view.party.members.filter((member) => !leaving.has(member.identifier)).length, view.party.minMembers];
}

export const decider = {
  describe: () => ({
    name: '{{name}}',
    version: '0.1.0',
    summary: 'Leaves a pause between one start and the next',
    settingsSchema: JSON.stringify(SETTINGS),
    verdicts: ['lock', 'wait', 'release'],
  }),

  // Beyond the schema, which the host has looked at: rules across settings.
  validate: (settings) => [],

  admit(settings, view, memory) {
    const [remaining, least] = floor(view);
    if (remaining < least) {
      const reason = `${remaining} members would remain, the floor is ${least}`;
      return { verdict: { tag: 'wait' }, code: 'below-floor', reason, wakeAfter: undefined, memory };
    }
    // Times are BigInt: milliseconds since 1970.
    const pause = BigInt(JSON.parse(settings)['pause-seconds']) * 1000n;
    const started = view.events.filter((event) => event.what === 'started').map((event) => event.at);
    const last = started.reduce((a, b) => (a > b ? a : b), 0n);
    const left = last + pause - view.now;
    if (left > 0n) {
      const reason = `a pause of ${pause / 1000n} s after the last start`;
      return { verdict: { tag: 'wait' }, code: 'pause', reason, wakeAfter: left, memory };
    }
    const reason = 'the last start is long enough ago';
    return { verdict: { tag: 'lock' }, code: 'no-pause', reason, wakeAfter: undefined, memory };
  },

  settle: (settings, view, outcome, memory) => ({
    verdict: { tag: 'release' },
    code: outcome.ending,
    reason: 'the slot is given back',
    memory,
  }),
};
