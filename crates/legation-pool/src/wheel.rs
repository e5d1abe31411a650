//! A timing wheel: things that fall due, kept by when, in constant time each (Varghese and Lauck, 1987, scheme 6: hierarchical).
//!
//! Six wheels of 64 spokes each, of seconds, then 64 s, and so on: 2,177 years. Taking something out is left to whoever asks: what
//! falls due is looked at once, and what has been put off meanwhile is put in again. So it holds hints and no truth; two wheels are
//! always equal.

use std::collections::BTreeSet;

use crate::index::push_tight;

/// Spokes of each wheel, as a power of two.
const BITS: u32 = 6;
/// Wheels.
const WHEELS: usize = 6;

/// Things of one kind that fall due.
#[derive(Clone)]
pub(crate) struct Wheel<T> {
    /// Everything due before this second was given out.
    now: u64,
    spokes: Vec<Vec<(u64, T)>>,
    /// What was due already when it was put in, or is beyond all wheels.
    rest: Vec<(u64, T)>,
    len: usize,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        let spokes = std::iter::repeat_with(Vec::new).take(WHEELS << BITS).collect();
        Self { now: 0, spokes, rest: Vec::new(), len: 0 }
    }
}

impl<T> PartialEq for Wheel<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> std::fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wheel({} entries)", self.len)
    }
}

impl<T: Copy + Ord> Wheel<T> {
    /// Puts in something that falls due at second `at`.
    pub(crate) fn put(&mut self, at: u64, what: T) {
        self.len += 1;
        self.place(at, what);
    }

    fn place(&mut self, at: u64, what: T) {
        if at < self.now {
            return self.rest.push((at, what));
        }
        // The wheel on which `at` and now differ: above it, they are in the same turn.
        let differing = (at ^ self.now) | 1;
        let wheel = ((63 - differing.leading_zeros()) / BITS) as usize;
        if wheel >= WHEELS {
            return self.rest.push((at, what));
        }
        let spoke = (at >> (BITS * wheel as u32)) & ((1 << BITS) - 1);
        push_tight(&mut self.spokes[(wheel << BITS) + spoke as usize], (at, what));
    }

    /// Gives out, in order, all that falls due before second `now`.
    pub(crate) fn due_before(&mut self, now: u64) -> Vec<(u64, T)> {
        let mut due = Vec::new();
        if now > self.now {
            if now - self.now > 1 << (2 * BITS) {
                self.leap(now);
            } else {
                while self.now < now {
                    due.append(&mut self.spokes[(self.now & ((1 << BITS) - 1)) as usize]);
                    self.now += 1;
                    self.turn();
                }
            }
        }
        let mut later = Vec::new();
        for (at, what) in self.rest.drain(..) {
            if at < now { due.push((at, what)) } else { later.push((at, what)) }
        }
        self.rest = later;
        self.len -= due.len();
        due.sort_unstable();
        due
    }

    /// Has the wheels above hand down what is near now.
    fn turn(&mut self) {
        for wheel in 1..WHEELS {
            let shift = BITS * wheel as u32;
            if self.now & ((1 << shift) - 1) != 0 {
                return;
            }
            let spoke = (self.now >> shift) & ((1 << BITS) - 1);
            let near = std::mem::take(&mut self.spokes[(wheel << BITS) + spoke as usize]);
            for (at, what) in near {
                self.place(at, what);
            }
        }
    }

    /// Goes far at once: everything is placed anew.
    fn leap(&mut self, now: u64) {
        let all: Vec<_> = self.spokes.iter_mut().flat_map(std::mem::take).collect();
        self.now = now;
        for (at, what) in all {
            self.place(at, what);
        }
    }
}

/// Things that fall due, and those that have: what is asked about at the next tick. As hints, two are always equal.
#[derive(Clone, Debug)]
pub(crate) struct Due<T> {
    wheel: Wheel<T>,
    ready: BTreeSet<T>,
}

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self { wheel: Wheel::default(), ready: BTreeSet::new() }
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T: Copy + Ord> Due<T> {
    /// Has something looked at once second `at` is over.
    pub(crate) fn put(&mut self, at: u64, what: T) {
        self.wheel.put(at, what);
    }

    /// Bytes that it takes.
    pub(crate) fn weight(&self) -> usize {
        let entries = self.wheel.spokes.iter().chain([&self.wheel.rest]).map(Vec::capacity).sum::<usize>();
        entries * size_of::<(u64, T)>() + self.ready.len() * size_of::<T>()
    }

    /// Whether something that was put in with this second is there yet: it has not fallen due.
    pub(crate) fn is_ahead(&self, at: u64) -> bool {
        at >= self.wheel.now
    }

    /// Goes on to second `now`; gives what falls due before it.
    pub(crate) fn fall_due(&mut self, now: u64) -> Vec<T> {
        if self.wheel.now >= now {
            return Vec::new();
        }
        self.wheel.due_before(now).into_iter().map(|(_, what)| what).collect()
    }

    /// Keeps what fell due, to be taken.
    pub(crate) fn keep(&mut self, what: T) {
        self.ready.insert(what);
    }

    /// Goes on to second `now`; of what falls due before it, keeps what `alive` says.
    pub(crate) fn advance(&mut self, now: u64, alive: impl Fn(T) -> bool) {
        if now > self.wheel.now {
            self.ready.extend(self.wheel.due_before(now).into_iter().map(|(_, what)| what).filter(|what| alive(*what)));
        }
    }

    /// What has fallen due before second `now` and was not taken yet.
    pub(crate) fn take(&mut self, now: u64) -> BTreeSet<T> {
        let due = self.wheel.due_before(now).into_iter().map(|(_, what)| what);
        let mut ready = std::mem::take(&mut self.ready);
        ready.extend(due);
        ready
    }

    /// Whether something is looked at once second `at` is over; for the books' sake.
    pub(crate) fn looks_at(&self, at: u64, what: T) -> bool {
        let mut all = self.wheel.spokes.iter().flatten().chain(&self.wheel.rest);
        self.ready.contains(&what) || all.any(|(when, which)| *when <= at && *which == what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a sorted set: whatever the order of putting in and of going on.
    #[test]
    fn what_is_due_comes_out_once_and_in_order() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut wheel, mut set, mut now) = (Wheel::default(), BTreeSet::new(), 1_800_000_000);
        for n in 0..20_000_u32 {
            let far = [3, 70, 5_000, 300_000, 1 << 40][random(5) as usize];
            let at = now + random(far) - random(3).min(now);
            wheel.put(at, n);
            set.insert((at, n));
            if random(4) == 0 {
                now += [0, 1, 2, 64, 4_096, 90_000][random(6) as usize];
                let later = set.split_off(&(now, 0));
                assert_eq!(wheel.due_before(now), std::mem::replace(&mut set, later).into_iter().collect::<Vec<_>>());
            }
        }
        assert_eq!(wheel.len, set.len());
    }
}
