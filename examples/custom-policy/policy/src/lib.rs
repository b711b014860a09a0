//! Locks only while somebody is in the office: while the party `[party]` has enough members.

use lockkeeper_sdk::prelude::*;

/// Settings of `office-hours`.
#[settings]
pub struct OfficeHours {
    /// How many people must be in.
    pub people: usize,
}

#[policy]
impl Policy for OfficeHours {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        match view.members() >= self.people {
            true => lock("somebody-is-in", format!("{} people are in", view.members())),
            false => wait("nobody-is-in", format!("{} of {} people are in", view.members(), self.people)),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::testing::view;

    use super::*;

    #[test]
    fn it_locks_once_enough_people_are_in() {
        let policy = OfficeHours { people: 2 };
        let mut memory = Memory::default();
        assert!(policy.admit(&view("web01").members(["ann"]).build(), &mut memory).is_wait());
        assert!(policy.admit(&view("web01").members(["ann", "bob"]).build(), &mut memory).is_lock());
    }
}
