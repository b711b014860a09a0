// yield-to: nothing goes while others hold slots of another semaphore, such as that of the backups.

const SETTINGS = {
  type: 'object',
  properties: {
    path: { type: 'string', description: 'The semaphore; the job lists it under `[[observe]]`.' },
    most: {
      type: 'integer',
      minimum: 0,
      maximum: 1000,
      description: 'How many of its slots may be held. Left out: none.',
    },
  },
  required: ['path'],
  additionalProperties: false,
};

export const decider = {
  describe: () => ({
    name: 'yield-to',
    version: '1.0.0',
    summary: 'Nothing goes while others hold slots of another semaphore',
    settingsSchema: JSON.stringify(SETTINGS),
    verdicts: ['lock', 'wait', 'abort', 'release'],
  }),

  validate(settings) {
    // The schema has been looked at. This is what it cannot say.
    const { path } = JSON.parse(settings);
    if (path.startsWith('/')) return [];
    return [{ severity: 'error', at: 'path', message: `\`${path}\` is no path`, help: 'write it such as `/locks/backup`' }];
  },

  admit(settings, view, memory) {
    const { path, most = 0 } = JSON.parse(settings);
    const answer = (tag, code, reason) => ({ verdict: { tag }, code, reason, wakeAfter: undefined, memory });
    const other = view.otherSemaphores.find((semaphore) => semaphore.path === path);
    // Without it this would wait for ever.
    if (!other) return answer('abort', 'not-observed', `the job does not observe \`${path}\``);
    const held = other.leases.length;
    // It is asked again when a lease of it comes or goes: the view shows them.
    if (held > most) return answer('wait', 'others-first', `${held} slots of \`${path}\` are held, ${most} may be`);
    return answer('lock', 'others-done', `${held} slots of \`${path}\` are held`);
  },

  settle: (settings, view, outcome, memory) => ({
    verdict: { tag: 'release' },
    code: outcome.ending,
    reason: 'the slot is given back',
    memory,
  }),
};
