//! Policies with one mistake each, such as people make. Which one it is stands in the file: the test writes it there, so that
//! one build makes all of them, and no setting can choose another.

use std::collections::HashMap;
use std::hint::black_box;

use lockkeeper_sdk::prelude::*;

/// The mistake, padded with blanks; the test looks for this text.
static MISTAKE: [u8; 32] = *b"MISTAKE:none                    ";

/// Settings of the bad policies.
#[settings]
struct Bad {
    /// What somebody divides by.
    per: u32,
}

#[policy("lock", "wait", "release")]
impl Policy for Bad {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        let mistake = black_box(&MISTAKE);
        let mistake = std::str::from_utf8(mistake).unwrap_or_default().trim_start_matches("MISTAKE:").trim_end();
        let floor = if mistake == "ignores-the-floor" { None } else { rules::floor(view, None) };
        if let Some(no) = floor {
            return no;
        }
        match mistake {
            "another-map-each-time" => {
                let names: HashMap<&str, u32> = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().zip(1..).collect();
                let first = names.keys().next().copied().unwrap_or_default();
                lock(format!("first-is-{first}"), "whichever comes first")
            }
            "waits-without-a-wake" if !view.now.is_multiple_of(86_400_000) => wait("not-midnight", "until midnight"),
            "traps-on-an-empty-party" => {
                let oldest = view.party.as_ref().map(|party| party.members[0].identifier.clone());
                lock("oldest", oldest.unwrap_or_default())
            }
            "answers-outside-its-list" if view.progress.failed > 0 => hold("failures", "somebody look at it"),
            "slow" => {
                let mut sum = 0_u64;
                for round in 0..5_000_000_u64 {
                    sum = black_box(sum.wrapping_mul(31).wrapping_add(round));
                }
                lock("slow", format!("{sum}"))
            }
            "hungry" => {
                let mut kept = Vec::new();
                for _ in 0..60 {
                    kept.push(black_box(vec![1_u8; 1024 * 1024]));
                }
                lock("hungry", format!("{}", kept.len()))
            }
            "depends-on-the-order" => {
                let first = view.semaphore.leases.first().is_some_and(|lease| lease.mine);
                lock(if first { "mine-first" } else { "others-first" }, "by the first lease")
            }
            "panics-on-odd-settings" => lock("share", format!("{}", 100 / self.per)),
            _ => rules::go(view),
        }
    }
}
