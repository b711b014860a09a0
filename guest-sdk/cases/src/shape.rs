//! What a view holds: its keys in the contract's order, with a sentence each. `interface types` of `policy.wit` is where
//! this comes from; `lockkeeper policy views` shows it, and whoever misspells a key hears of the others.

/// One key of a record.
#[derive(Debug)]
pub struct Field {
    /// The contract's name.
    pub name: &'static str,
    /// What it means, for who reads a sample.
    pub doc: &'static str,
    /// What may stand there.
    pub shape: Shape,
}

/// What may stand somewhere.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A whole number from 0 to this.
    Whole(u64),
    /// The same, or nothing.
    MaybeWhole(u64),
    /// Milliseconds since the Unix epoch, an RFC 3339 time, or a length of time before or after `now` such as `"-5m"`.
    Instant,
    /// Any text.
    Text,
    /// Yes or no.
    Flag,
    /// Yes, no, or nothing, which is made out of the rest where it is left out.
    MaybeFlag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Why the policy is asked.
    Cause,
    /// A record.
    Record(&'static [Field]),
    /// A record, or nothing.
    MaybeRecord(&'static [Field]),
    /// A table of texts, which the contract has as a list of key and value.
    Labels,
    /// A list of records; a bare text sets this key of one.
    List(&'static [Field], Option<&'static str>),
}

const fn field(name: &'static str, doc: &'static str, shape: Shape) -> Field {
    Field { name, doc, shape }
}

const COUNT: Shape = Shape::Whole(u32::MAX as u64);
const BIG: Shape = Shape::Whole(u64::MAX);

/// The causes without and with a text.
pub(crate) const CAUSES: [&str; 6] = ["first", "leases-changed", "members-changed", "progressed", "woken", "granted"];
pub(crate) const CAUSES_WITH_TEXT: [&str; 2] = ["refused", "operator"];

/// What may have happened.
pub const EVENT_KINDS: [&str; 10] = [
    "leased",
    "forced",
    "started",
    "succeeded",
    "failed",
    "unknown",
    "released",
    "rolled-back",
    "skipped",
    "lease-lost",
];

/// A held slot.
pub static LEASE: [Field; 6] = [
    field("identifier", "who holds it", Shape::Text),
    field("fence", "grows with every grant", BIG),
    field("since", "when it was taken", Shape::Instant),
    field("ephemeral", "dies with its session", Shape::Flag),
    field("alive", "whether the holder is a member of the party; left out: as the members say", Shape::MaybeFlag),
    field("mine", "whether this rollout took it", Shape::Flag),
];

/// A member of a party.
pub static MEMBER: [Field; 2] =
    [field("identifier", "who", Shape::Text), field("since", "when it joined", Shape::Instant)];

static SEMAPHORE: [Field; 4] = [
    field("path", "where it is", Shape::Text),
    field("slots", "how many leases may be held at once", COUNT),
    field(
        "leases",
        "in the order of their fences; a bare name is a lease that somebody else took a minute ago",
        Shape::List(&LEASE, Some("identifier")),
    ),
    field("queued", "how many contenders queue for it, other tools' included", COUNT),
];

static PARTY: [Field; 3] = [
    field("path", "where it is", Shape::Text),
    field("min-members", "the floor that the job sets; 0 where it sets none", COUNT),
    field(
        "members",
        "in the order of their identifiers; a bare name is a member since an hour ago",
        Shape::List(&MEMBER, Some("identifier")),
    ),
];

static TARGET: [Field; 5] = [
    field("name", "its name", Shape::Text),
    field("labels", "its labels", Shape::Labels),
    field("wave", "the wave that it belongs to; empty without waves", Shape::Text),
    field("attempt", "1 for the first try", COUNT),
    field("waiting-since", "since when it has been waiting", Shape::Instant),
];

static PROGRESS: [Field; 13] = [
    field("job", "the job's name", Shape::Text),
    field("run", "the run's name", Shape::Text),
    field("started", "when the run started", Shape::Instant),
    field("total", "all targets of the run", COUNT),
    field("pending", "not asked about yet", COUNT),
    field("waiting", "asked about, or queueing", COUNT),
    field("running", "under way, or keeping their slot", COUNT),
    field("succeeded", "succeeded", COUNT),
    field("failed", "failed", COUNT),
    field("rolled-back", "failed and rolled back", COUNT),
    field("skipped", "left out", COUNT),
    field("unknown", "nobody knows how they ended", COUNT),
    field(
        "budget-left",
        "failures that the budget still allows, those reserved by acting targets taken off; \"none\": no budget",
        Shape::MaybeWhole(u32::MAX as u64),
    ),
];

static EVENT: [Field; 4] = [
    field("at", "when", Shape::Instant),
    field("target", "to which target", Shape::Text),
    field(
        "kind",
        "kind: leased, forced, started, succeeded, failed, unknown, released, rolled-back, skipped or lease-lost",
        Shape::Word(&EVENT_KINDS),
    ),
    field("detail", "more, for a person", Shape::Text),
];

/// Everything that a policy may look at.
pub static VIEW: [Field; 11] = [
    field("sequence", "position of this decision in the journal", BIG),
    field("now", "milliseconds since the Unix epoch, or a time such as 2025-06-15T15:06:40Z", Shape::Instant),
    field("seed", "the only randomness there is: the same for the same run and sequence", BIG),
    field(
        "cause",
        "why the policy is asked now: first, leases-changed, members-changed, progressed, woken, granted, or { refused = \"why\" }, { operator = \"who\" }",
        Shape::Cause,
    ),
    field("target", "the target that is asked about", Shape::Record(&TARGET)),
    field("semaphore", "the job's semaphore", Shape::Record(&SEMAPHORE)),
    field("party", "the job's party; \"none\" where the job names none", Shape::MaybeRecord(&PARTY)),
    field("other-semaphores", "semaphores that the job observes", Shape::List(&SEMAPHORE, Some("path"))),
    field("other-parties", "parties that the job observes", Shape::List(&PARTY, Some("path"))),
    field("progress", "where the rollout stands", Shape::Record(&PROGRESS)),
    field("events", "the newest events of the run, oldest first; bounded by the host", Shape::List(&EVENT, None)),
];
