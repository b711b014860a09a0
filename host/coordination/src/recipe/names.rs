//! The names that kazoo gives its nodes, read and written. Pure.

/// The suffix of the queue's path, and what stands before an entry's digits.
pub(super) const LOCK: &str = "__lock__";

/// The end of a full member's name.
pub(super) const PARTY: &str = "__party__";

/// What the name of a reservation begins with: a child that keeps a slot from callers that know an older, larger number. They
/// count every child; callers that follow the number leave these out.
pub(super) const RESERVED: &str = "reserved-";

/// Whether a child of a semaphore is a reservation.
pub(super) fn is_reservation(name: &str) -> bool {
    name.strip_prefix(RESERVED).is_some_and(|rest| rest.len() == UNIQUE_DIGITS)
}

/// Hex digits of a unique name.
pub(super) const UNIQUE_DIGITS: usize = 32;

/// Digits of an entry's sequence number.
const NUMBER_DIGITS: usize = 10;

/// From here on the queue's counter is too near its end (2^31), where the order of the numbers turns over and kazoo's
/// lock changes hands with every arrival (kazoo#730).
pub(super) const LAST_NUMBER: i64 = (1 << 31) - 1_000_000;

/// What orders a queue entry: the end of its name as text, as kazoo compares it. `None` for a name that does not
/// contend: the end must be `__lock__`, perhaps a minus sign, and exactly ten digits.
pub(super) fn place(name: &str) -> Option<&str> {
    let digits = name.len().checked_sub(NUMBER_DIGITS)?;
    // Not the bytes of a longer character: a name is any UTF-8.
    let number = name.get(digits..)?;
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let before = name.get(..digits)?;
    if before.ends_with(LOCK) {
        return Some(number);
    }
    let signed = before.strip_suffix('-')?;
    if signed.ends_with(LOCK) { name.get(signed.len()..) } else { None }
}

/// The sequence number of an entry's name.
pub(super) fn number(name: &str) -> Option<i64> {
    place(name)?.parse().ok()
}

/// Those of `names` that contend, in the queue's order.
pub(super) fn contenders(names: &[String]) -> Vec<&str> {
    let mut queue: Vec<(&str, &str)> = names.iter().filter_map(|name| Some((place(name)?, name.as_str()))).collect();
    queue.sort_unstable();
    queue.into_iter().map(|(_, name)| name).collect()
}

/// The number of slots in a semaphore's data, read as generously as Python's `int` would; `None` where kazoo could
/// not read it either and checks nothing.
pub(super) fn slots(data: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(data).ok()?.trim();
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    // Python lets single underscores stand between digits.
    let mut value: i64 = 0;
    let mut digit_before = false;
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                value = value.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
                digit_before = true;
            }
            b'_' if digit_before => digit_before = false,
            _ => return None,
        }
    }
    digit_before.then_some(sign * value)
}

/// What a child of a party's path is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MemberName<'a> {
    /// Its identifier is in its name.
    Shallow(&'a str),
    /// Its identifier is in its data.
    Full,
    /// No member: a barrier's node, a lease, `ready`.
    Other,
}

/// Reads the name of a child of a party's path.
pub(super) fn member(name: &str) -> MemberName<'_> {
    if let Some((unique, identifier)) = name.split_at_checked(UNIQUE_DIGITS)
        && unique.bytes().all(|b| b.is_ascii_hexdigit())
        && let Some(identifier) = identifier.strip_prefix('-')
        && !identifier.is_empty()
    {
        return MemberName::Shallow(identifier);
    }
    if name.ends_with(PARTY) { MemberName::Full } else { MemberName::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_contends_is_told_by_the_end_of_the_name() {
        let hex = "0123456789abcdef0123456789abcdef";
        for (name, expected) in [
            (format!("{hex}__lock__0000000012"), Some("0000000012")),
            (String::from("__lock__0000000012"), Some("0000000012")),
            (format!("é{hex}__lock__-2147483648"), Some("-2147483648")),
            (format!("{hex}__lock__000000012"), None),
            (format!("{hex}__lock__00000000123"), None),
            (format!("{hex}__rlock__0000000012"), None),
            (format!("{hex}__lock__--0000000012"), None),
            (format!("{hex}__lock__0000000012x"), None),
            (format!("{hex}-0000000012"), None),
            (String::from("0000000012"), None),
            (String::from("ééééé"), None),
            (String::new(), None),
        ] {
            assert_eq!(place(&name), expected, "{name}");
        }
        assert_eq!(number("x__lock__-000000001"), None, "nine digits behind the minus are none");
        assert_eq!(number("x__lock__-2147483648"), Some(-2_147_483_648));
    }

    #[test]
    fn contenders_are_ordered_as_kazoo_orders_them() {
        let names = ["b__lock__0000000002", "other", "z__lock__0000000001", "a__lock__-0000000003"].map(String::from);
        assert_eq!(contenders(&names), ["a__lock__-0000000003", "z__lock__0000000001", "b__lock__0000000002"]);
    }

    #[test]
    fn slots_are_read_as_python_reads_an_integer() {
        for (data, expected) in [
            ("3", Some(3)),
            (" 3\n", Some(3)),
            ("+3", Some(3)),
            ("-3", Some(-3)),
            ("1_000", Some(1000)),
            ("0", Some(0)),
            ("", None),
            (" ", None),
            ("-", None),
            ("3.0", None),
            ("_3", None),
            ("3_", None),
            ("3__0", None),
            ("three", None),
            ("99999999999999999999", Some(i64::MAX)),
        ] {
            assert_eq!(slots(data.as_bytes()), expected, "{data:?}");
        }
        assert_eq!(slots(b"\xff"), None);
    }

    #[test]
    fn members_are_told_from_what_else_stands_there() {
        let hex = "0123456789abcdef0123456789abcdef";
        assert_eq!(member(&format!("{hex}-web-01")), MemberName::Shallow("web-01"));
        assert_eq!(member(&format!("{hex}-a__party__")), MemberName::Shallow("a__party__"));
        assert_eq!(member(&format!("{hex}__party__")), MemberName::Full);
        for other in [hex, "ready", "web-01", &format!("{hex}-"), &format!("{hex}__lock__0000000001")] {
            assert_eq!(member(other), MemberName::Other, "{other}");
        }
    }
}
