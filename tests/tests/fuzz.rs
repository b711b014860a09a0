//! A short run of what `cargo xtask fuzz` does for hours: seeds, changed at random and always the same, read by whatever
//! reads strangers' bytes.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "what was done is said")]

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use lockkeeper_tests::fuzz::{TARGETS, Target};
use lockkeeper_tests::target_dir;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Values that programs mishandle, inserted in place of others.
const ODDITIES: [&[u8]; 20] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80",
    b"\"",
    b"\\",
    b"\n",
    b"{",
    b"[[",
    b"]",
    b"=",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"1e999",
    b"999999999d",
    b"nan",
    b"\xf0\x9f\x94\x92",
    b"\x1b[2J",
    b"null",
];

/// Times that each target reads; `LOCKKEEPER_LONG=1` has it read more.
fn times(target: &Target) -> usize {
    let usual = match target.name {
        // Each of them compiles, if it is a policy still.
        "wasm" => 400,
        "znodes" => 1_000,
        _ => 5_000,
    };
    match std::env::var_os("LOCKKEEPER_LONG") {
        Some(_) => usual * 100,
        None => usual,
    }
}

/// Some of a seed, changed at a few places.
fn changed(seeds: &[Vec<u8>], dice: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds.choose(dice).unwrap().clone();
    for _ in 0..dice.random_range(1..=4) {
        let at = dice.random_range(0..=bytes.len());
        let longest: usize = 1 << dice.random_range(0..=8);
        let to = (at + dice.random_range(0..=longest)).min(bytes.len());
        match dice.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, ODDITIES.choose(dice).unwrap().iter().copied())),
            3 => drop(bytes.splice(at..to, ODDITIES.choose(dice).unwrap().iter().copied())),
            4 => {
                let copied = bytes[at..to].to_vec();
                let times = dice.random_range(1..=20);
                drop(bytes.splice(at..at, copied.repeat(times)));
            }
            5 => {
                let other = seeds.choose(dice).unwrap();
                let from = dice.random_range(0..=other.len());
                let until = (from + dice.random_range(0..=400)).min(other.len());
                drop(bytes.splice(at..to, other[from..until].iter().copied()));
            }
            _ => {
                // A number for a number.
                if let Some(digit) = (at..bytes.len()).find(|at| bytes[*at].is_ascii_digit()) {
                    let number = ["0", "-1", "4294967296", "9223372036854775808", "00", "1.5"].choose(dice).unwrap();
                    drop(bytes.splice(digit..=digit, number.bytes()));
                }
            }
        }
    }
    bytes
}

fn reads_anything(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = target.seeds();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    let all = times(target);
    for number in 0..seeds.len() + all {
        let bytes = match seeds.get(number) {
            Some(seed) => seed.clone(),
            None => changed(&seeds, &mut StdRng::seed_from_u64(number as u64)),
        };
        let begun = Instant::now();
        if catch_unwind(|| (target.run)(&bytes)).is_err() {
            let found = target_dir().join(format!("fuzz-{name}-{number}"));
            std::fs::write(&found, &bytes).unwrap();
            panic!("{name} panicked at number {number}; what it read is in {}", found.display());
        }
        longest = longest.max(begun.elapsed());
    }
    println!("{name}: {} seeds, {all} changed ones, {:?}; the longest {longest:?}", seeds.len(), begun.elapsed());
}

#[test]
fn jobs() {
    reads_anything("job");
}

#[test]
fn cases_and_views() {
    reads_anything("cases");
}

#[test]
fn policies() {
    reads_anything("wasm");
}

#[test]
fn nodes() {
    reads_anything("znodes");
}

#[test]
fn journals() {
    reads_anything("journal");
}
