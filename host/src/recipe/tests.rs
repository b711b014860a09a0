//! What only the memory store can show: round trips, requests, cancellation at every await, the queue's end.

mod memory {
    crate::behaviour_tests!(
        std::sync::Arc::new(crate::store::memory::Memory::new(Default::default())),
        start_paused = true,
    );
}

mod lagging {
    //! Every session behind the others, and slow.

    use std::sync::Arc;
    use std::time::Duration;

    use crate::store::memory::{Memory, MemoryOptions};

    crate::behaviour_tests!(
        Arc::new(Memory::new(MemoryOptions {
            round_trip: Duration::from_millis(4),
            lag: Duration::from_millis(3),
            ..MemoryOptions::default()
        })),
        start_paused = true,
    );
}
