//! Run states in layout 1, which earlier versions wrote. They are listed; finished ones count as finished; every
//! command except `abort` refuses unfinished ones. `abort` releases what they hold.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::RunStateError;
use super::json;
use super::records::RunRecord;
use crate::rollout::model::TargetRecord;
use lockkeeper_coordination::store::NodePath;

/// The number of this layout.
pub(super) const NUMBER: u32 = 1;

/// Renamed keys of the run's node and of its counts: old, new.
const KEYS: [(&str, &str); 5] = [
    ("stint", "runner-epoch"),
    ("stints", "runner-epochs"),
    ("acting", "running"),
    ("done", "succeeded"),
    ("state", "status"),
];

/// Renamed values of a target's status: old, new. The others are unchanged.
const STATUSES: [(&str, &str); 6] = [
    ("recalled", "roll-back-leased"),
    ("acting", "running"),
    ("ended", "action-ended"),
    ("kept", "keeping-slot"),
    ("reverting", "rolling-back"),
    ("done", "succeeded"),
];

/// The data of a run's node or a target's node in layout 2's words. Data that already has them is unchanged.
pub(super) fn renamed(data: Value) -> Value {
    let Value::Object(object) = data else { return data };
    let now = |names: &[(&str, &'static str)], name: &str| {
        names.iter().find(|(before, _)| *before == name).map(|(_, now)| *now)
    };
    let members = object.into_iter().map(|(key, value)| {
        let value = match (key.as_str(), &value) {
            ("state", Value::String(word)) => now(&STATUSES, word).map_or(value.clone(), Value::from),
            ("was" | "becomes" | "ended" | "counts", _) => renamed(value),
            _ => value,
        };
        (now(&KEYS, &key).map_or(key, str::to_owned), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// A target's record in layout 1 or 2.
pub(super) fn target_record(path: &NodePath, data: &[u8]) -> Result<TargetRecord, RunStateError> {
    match serde_json::from_slice(data) {
        Ok(record) => Ok(record),
        Err(_) => from_value(path, renamed(json::parse(path, data)?)),
    }
}

/// The record of a run in any layout that this program can list; `layout` says which.
pub(super) fn record(path: &NodePath, data: &[u8]) -> Result<RunRecord, RunStateError> {
    let value: Value = json::parse(path, data)?;
    from_value(path, if value["layout"] == NUMBER { renamed(value) } else { value })
}

fn from_value<T: DeserializeOwned>(path: &NodePath, value: Value) -> Result<T, RunStateError> {
    serde_json::from_value(value)
        .map_err(|error| RunStateError::Malformed { path: path.clone(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rollout::model::RecordedStatus;

    #[test]
    fn a_target_of_layout_1_is_read() {
        let data = json!({
            "at": 5, "attempt": 2, "lease": { "path": "/locks/a/1", "fence": 45 },
            "state": "recalled", "was": { "state": "done", "took-ms": 2 },
        });
        let path = NodePath::parse("/lockkeeper/runs/left-1/targets/a").unwrap();
        let record = target_record(&path, data.to_string().as_bytes()).unwrap();
        let was = Box::new(RecordedStatus::Succeeded { took_ms: Some(2) });
        assert_eq!(record.status, RecordedStatus::RollBackLeased { was });
        assert_eq!(record.lease.unwrap().fence.unwrap().get(), 45);
    }

    #[test]
    fn each_status_of_layout_1_has_a_status_now() {
        let details = json!({
            "ending": "failed", "exit-code": 3, "took-ms": 7, "detail": "", "until": 9, "reason": "r", "code": "c",
            "was": { "state": "pending" }, "becomes": { "state": "done", "took-ms": null },
        });
        let words = [
            "pending",
            "leased",
            "recalled",
            "acting",
            "ended",
            "kept",
            "retrying",
            "reverting",
            "roll-back-ended",
            "done",
            "failed",
            "unknown",
            "rolled-back",
            "skipped",
        ];
        for word in words {
            let mut data = details.clone();
            data["state"] = json!(word);
            let once = renamed(data);
            serde_json::from_value::<RecordedStatus>(once.clone()).unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!(renamed(once.clone()), once, "{word}: converted twice it is the same");
        }
    }

    #[test]
    fn a_run_of_layout_1_is_read() {
        let data = br#"{"layout":1,"job":"left","digest":"55","policy":"rolling","policy-digest":"3a","started":1,"targets":4,
            "semaphore":"/locks/left","slots":3,"stint":1,"stints":[{"number":1,"runner":"vm:26780","journal":"/j","began":2}],
            "ended":{"end":"done","reason":"r","at":3,"counts":{"total":4,"pending":0,"waiting":0,"acting":0,"done":4,
            "failed":0,"unknown":0,"skipped":0}}}"#;
        let record = record(&NodePath::parse("/lockkeeper/runs/left-1").unwrap(), data).unwrap();
        assert_eq!((record.layout, record.runner_epoch, record.runner_epochs.len()), (NUMBER, 1, 1));
        assert_eq!(record.ended.unwrap().counts.succeeded, 4);
    }
}
