//! Which relay a connection uses: one drawn among those that are near enough (data-plane §1.4).

use std::time::Duration;

use rand::Rng;

/// With so few relays a median says nothing; those within 1.5 × the best are near.
const FEW: usize = 2;
/// Floor of the median absolute deviation, lest relays of one data centre be told apart by noise.
const MIN_DEVIATION: Duration = Duration::from_millis(2);

/// Draw uniformly among the relays whose round trip is at most the limit that all of them together set.
pub(crate) fn choose<Id: Copy>(relays: &[(Id, Duration)], rng: &mut impl Rng) -> Option<Id> {
    let limit = limit(relays.iter().map(|(_, rtt)| *rtt).collect())?;
    let near: Vec<Id> = relays
        .iter()
        .filter(|(_, rtt)| *rtt <= limit)
        .map(|(id, _)| *id)
        .collect();
    near.get(rng.random_range(0..near.len())).copied()
}

fn limit(mut rtts: Vec<Duration>) -> Option<Duration> {
    rtts.sort_unstable();
    let best = *rtts.first()?;
    if rtts.len() <= FEW {
        return Some(best * 3 / 2);
    }
    let median = median(&rtts);
    let mut deviations: Vec<Duration> = rtts.iter().map(|rtt| rtt.abs_diff(median)).collect();
    deviations.sort_unstable();
    Some(median + 3 * self::median(&deviations).max(MIN_DEVIATION))
}

fn median(sorted: &[Duration]) -> Duration {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + sorted[middle]) / 2
    } else {
        sorted[middle]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn chosen(rtts_ms: &[u64]) -> Vec<usize> {
        let relays: Vec<(usize, Duration)> = rtts_ms
            .iter()
            .enumerate()
            .map(|(index, ms)| (index, Duration::from_millis(*ms)))
            .collect();
        let mut rng = StdRng::from_seed([7; 32]);
        let mut seen: Vec<usize> = (0..200).filter_map(|_| choose(&relays, &mut rng)).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn no_relay_can_be_chosen_from_none() {
        assert_eq!(choose::<u8>(&[], &mut StdRng::from_seed([7; 32])), None);
    }

    #[test]
    fn of_two_relays_both_serve_within_one_and_a_half_times_the_best() {
        assert_eq!(chosen(&[20, 30]), [0, 1]);
        assert_eq!(chosen(&[20, 31]), [0]);
    }

    #[test]
    fn of_many_relays_outliers_are_left_out() {
        assert_eq!(chosen(&[20, 22, 24, 26, 200]), [0, 1, 2, 3]);
        // Deviation 0 is floored: median 20 ms + 3 × 2 ms.
        assert_eq!(chosen(&[20, 20, 20, 26, 27]), [0, 1, 2, 3]);
    }
}
