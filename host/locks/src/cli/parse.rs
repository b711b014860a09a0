//! The values of options, from text.

use std::num::NonZeroU32;
use std::time::Duration;

use super::output::shown;
use crate::config;
use lockkeeper_coordination::recipe::{Identifier, IdentifierError, StoreId};

/// A duration as people write it; a bare `0` is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
            Err(format!("a number needs a unit, as in `{}s`", shown(text)))
        }
        _ => humantime::parse_duration(text)
            .map_err(|_| "no duration: expected something like `30s` or `1h 30m`".to_owned()),
    }
}

/// How long to wait: a duration, or a bare number of seconds as in Salt.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(seconds) if is_number => {
            Duration::try_from_secs_f64(seconds).map_err(|_| "more seconds than there can be".to_owned())
        }
        _ => duration(text),
    }
}

/// A truth value in Salt's spelling and others.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected `true` or `false`".to_owned()),
    }
}

pub(super) fn slots(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a whole number from 1 on".to_owned())
}

/// A fence, which no store grants below 1.
pub(super) fn fence(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "a fence is a whole number from 1 on";
    text.parse::<i64>()
        .ok()
        .and_then(|fence| u64::try_from(fence).ok())
        .filter(|fence| *fence > 0)
        .ok_or(EXPECTED.into())
}

pub(super) fn store_id(text: &str) -> Result<StoreId, String> {
    StoreId::parse(text).ok_or_else(|| "a store's id has 1 to 64 letters, digits and `-`".to_owned())
}

pub(super) fn attempt(text: &str) -> Result<u64, String> {
    slots(text).map(|number| number.get().into())
}

pub(super) fn session_timeout(text: &str) -> Result<Duration, String> {
    config::session_timeout(duration(text)?)
}

pub(super) fn connect_timeout(text: &str) -> Result<Duration, String> {
    config::connect_timeout(duration(text)?)
}

pub(super) fn identifier(text: &str) -> Result<Identifier, IdentifierError> {
    Identifier::new(text)
}

/// A reason that is worth keeping.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("give the reason in a few words; it is recorded and shown".to_owned()),
        _ if text.contains(char::is_control) => Err("a reason is one line of text".to_owned()),
        text => Ok(text.to_owned()),
    }
}
