//! Every target runs its corpus, and thousands of deterministic changes of it, on any toolchain.
#![allow(
    clippy::unwrap_used,
    reason = "the corpus is ours: a broken line is to fail loudly"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use wardgate_fuzz_targets::TARGETS;

/// Changed inputs per target, and the seed of the changes; the variables explore further where there is no libFuzzer.
const CHANGED: (&str, u64) = ("FUZZ_CHANGED", 4_000);
const SEED: (&str, u64) = ("FUZZ_SEED", 1);

#[test]
fn every_input_of_the_corpora_is_survived_and_most_get_past_the_first_checks() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        let understood = corpus.iter().filter(|input| target(input)).count();
        assert!(
            understood * 2 >= corpus.len(),
            "{name}: only {understood} of {} inputs get past the first checks",
            corpus.len()
        );
    }
}

macro_rules! changed_inputs_are_survived {
    ($($name:ident)*) => { $(#[test] fn $name() { explore(stringify!($name)); })* };
}

/// One test a target, so that they run side by side.
mod changed_inputs_are_survived_by {
    use super::explore;
    changed_inputs_are_survived!(connect offload packet relay stun tunnel wireguard);
}

#[test]
fn every_target_has_its_changed_inputs_replayed() {
    let names = TARGETS.map(|(name, _)| name);
    assert_eq!(
        names,
        [
            "connect",
            "offload",
            "packet",
            "relay",
            "stun",
            "tunnel",
            "wireguard"
        ]
    );
}

fn explore(name: &str) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).unwrap().1;
    let corpus = corpus(name);
    let mut rng = fastrand::Rng::with_seed(setting(SEED));
    for _ in 0..setting(CHANGED) {
        let input = changed(&corpus, &mut rng);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            panic!(
                "{name} broke (see above) on this input, add it to fuzz/corpus/{name}.txt:\n{}",
                hex(&input)
            );
        }
    }
}

fn setting((variable, default): (&str, u64)) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// A few of what fuzzers do: other bytes, other numbers, parts cut out, doubled, or taken from another input.
fn changed(corpus: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..input.len().max(1)).min(input.len());
        let end = (at + rng.usize(..24)).min(input.len());
        match rng.u8(..7) {
            0 | 1 if at < input.len() => input[at] = rng.u8(..),
            2 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            3 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
            4 => drop(input.drain(at..end)),
            5 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..other.len().max(1)).min(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input
}

/// One input a line, in hexadecimal digits that may be spaced; lines with `#` say what follows.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../../fuzz/corpus/{name}.txt"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(unhex).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
