//! Candidates as text on the wire (data-plane §1.5); formatting and the grammar itself are the ICE agent's.

use std::net::{IpAddr, SocketAddr};

use is::{Candidate, CandidateKind};

/// Ours: a candidate is about 120 bytes; nothing longer is worth parsing.
const MAX_LENGTH: usize = 512;
/// Ours: the agent counts down local preferences per candidate; beyond this many they stay equal, not negative.
const MAX_RANK: usize = 7_000;

/// Parse what a peer signalled; none unless it is component 1 over UDP at an address that one can send to, and its user
/// name, if given, is the peer's.
pub(crate) fn parse(text: &str, peer_username: &str) -> Option<Candidate> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let mut fields = text.split_whitespace();
    let (component, transport) = (fields.nth(1)?, fields.next()?);
    if component != "1" || !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    let candidate = Candidate::from_sdp_string(text).ok()?;
    let foreign = candidate
        .ufrag()
        .is_some_and(|username| username != peer_username);
    (!foreign && is_sendable(candidate.addr())).then_some(candidate)
}

/// A further place where the peer may listen: its public address with the port that it uses inside (data-plane §1.6).
///
/// It ranks just below the candidate that it is derived from, which is known to exist.
pub(crate) fn optimistic(reflexive: &Candidate, port: u16) -> Candidate {
    Candidate::from_parts(
        "optimistic".to_owned(),
        1,
        is::Protocol::Udp,
        reflexive.prio().saturating_sub(1),
        SocketAddr::new(reflexive.addr().ip(), port),
        CandidateKind::ServerReflexive,
        None,
        None,
        None,
    )
}

/// Local preference (data-plane §1.5, "Priorities").
pub(crate) fn local_preference(candidate: &Candidate, rank: usize) -> u32 {
    is::default_local_preference(candidate, rank.min(MAX_RANK))
}

fn is_sendable(address: SocketAddr) -> bool {
    let routable = match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
        }
    };
    routable && address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "candidate:fffeff7e1d3c09b54ef1 1 udp 2130706175 192.168.1.20 52625 typ host ufrag 9qsn";

    #[test]
    fn the_candidate_of_the_specification_is_read() {
        let candidate = parse(HOST, "9qsn").unwrap();
        assert_eq!(candidate.kind(), CandidateKind::Host);
        assert_eq!(candidate.addr(), "192.168.1.20:52625".parse().unwrap());
        assert_eq!(candidate.prio(), 2_130_706_175);
    }

    #[test]
    fn a_candidate_may_lack_the_user_name_but_not_carry_another() {
        assert!(parse(HOST.strip_suffix(" ufrag 9qsn").unwrap(), "9qsn").is_some());
        assert!(parse(HOST, "9qsm").is_none());
    }

    #[test]
    fn unknown_pairs_after_the_type_are_skipped() {
        assert!(parse(&format!("{HOST} network-id 1 network-cost 50"), "9qsn").is_some());
    }

    #[test]
    fn unusable_candidates_are_refused() {
        for (from, to) in [
            ("candidate:", "a=candidate:"),
            (" 1 udp", " 2 udp"),
            (" 1 udp", " 1 tcp"),
            ("2130706175", "-1"),
            ("192.168.1.20", "0.0.0.0"),
            ("192.168.1.20", "224.0.0.1"),
            ("192.168.1.20", "255.255.255.255"),
            ("192.168.1.20", "::ffff:192.168.1.20"),
            ("192.168.1.20", "f3b6.local"),
            ("52625", "0"),
            ("52625", "65536"),
            ("typ host", "typ home"),
            ("typ host", ""),
        ] {
            let text = HOST.replacen(from, to, 1);
            assert!(parse(&text, "9qsn").is_none(), "{text}");
        }
        assert!(parse("", "9qsn").is_none());
        assert!(parse(&format!("{HOST}{}", " x y".repeat(200)), "9qsn").is_none());
    }
}
