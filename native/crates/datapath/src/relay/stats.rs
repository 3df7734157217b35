//! Counters of the relay.

/// Gauges and, from the start of the engine, totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Live allocations.
    pub allocations: u64,
    /// Channels of live allocations, those that cool down included.
    pub channels: u64,
    /// Datagrams passed on, in either direction.
    pub relayed_packets: u64,
    /// Their payload in bytes, without channel headers.
    pub relayed_bytes: u64,
    /// Of these, passed between two allocations without touching the network.
    pub hairpinned_packets: u64,
    /// Datagrams dropped: no channel, not understood, or too large.
    pub dropped_packets: u64,
    /// Requests left unanswered because their source asked too often.
    pub rate_limited: u64,
    /// Requests answered 401 or 438.
    pub auth_failures: u64,
    /// Requests answered with success, BINDING included.
    pub successes: u64,
    /// Requests answered with an error, those of `auth_failures` included.
    pub errors: u64,
    /// Allocations made since the start.
    pub allocations_made: u64,
    /// Requests for an allocation refused (508) for lack of ports or descriptors, or because the relay drains.
    pub allocations_refused: u64,
    /// Requests for a channel refused (508) because the allocation, or the relay, has as many as it may.
    pub channels_refused: u64,
}

impl RelayStats {
    /// Names and values, in the order of the fields.
    pub fn entries(&self) -> [(&'static str, u64); 13] {
        [
            ("allocations", self.allocations),
            ("channels", self.channels),
            ("relayed_packets", self.relayed_packets),
            ("relayed_bytes", self.relayed_bytes),
            ("hairpinned_packets", self.hairpinned_packets),
            ("dropped_packets", self.dropped_packets),
            ("rate_limited", self.rate_limited),
            ("auth_failures", self.auth_failures),
            ("successes", self.successes),
            ("errors", self.errors),
            ("allocations_made", self.allocations_made),
            ("allocations_refused", self.allocations_refused),
            ("channels_refused", self.channels_refused),
        ]
    }
}
