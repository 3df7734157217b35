//! Counts, in tests only, the turns of loops on a packet's way, so that a test can hold what a packet may cost.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many turns of a loop, or look-ups in a tree.
#[inline]
pub fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|counted| counted.set(counted.get() + steps));
    #[cfg(not(test))]
    let _ = steps;
}

/// What a call gives, and how many steps it took.
#[cfg(test)]
pub fn of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = STEPS.with(std::cell::Cell::get);
    let result = call();
    (result, STEPS.with(std::cell::Cell::get) - before)
}
