use lockkeeper_sdk::prelude::*;

/// What a job says under `[policy.settings]`.
#[settings]
struct Pause {
    /// How long nothing starts after a start, such as `30s`.
    pause: Period,
}

#[policy]
impl Policy for Pause {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        if let Some(no) = rules::floor(view, None) {
            return no; // the job's party must not become too small
        }
        let last = view.events_of(EventKind::Started).map(|event| event.at).max().unwrap_or(0);
        let left = (last + self.pause.as_millis()).saturating_sub(view.now);
        if left > 0 {
            let left = Duration::from_millis(left);
            return wait("pause", format!("a pause of {} after the last start", self.pause)).ask_again_after(left);
        }
        rules::go(view)
    }
}

#[test]
fn cases() {
    lockkeeper_sdk::testing::cases::<Pause>(include_str!("../cases.toml"));
}
