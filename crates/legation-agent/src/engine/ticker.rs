//! The thread that makes running modules look at the time. It ticks while something runs and sleeps when nothing does.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use super::TICK;

/// Idle ticks before the thread goes to sleep, so that a row of short runs does not wake it each time.
const LINGER_TICKS: u32 = 50;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    active: AtomicUsize,
    /// Set before the thread looks at `active` for the last time, read after `active` was raised: one of the two always sees
    /// the other (both sequentially consistent), so no run is ever left without ticks.
    asleep: AtomicBool,
    stop: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = shared.clone();
            thread::Builder::new().name("engine-tick".into()).spawn(move || shared.tick(&engine))?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks happen as long as what this returns is alive.
    pub(super) fn enter(&self) -> Active<'_> {
        self.shared.active.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.shared.rouse();
        }
        Active(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.rouse();
        if let Some(thread) = self.thread.take() {
            // The thread has no way to panic, and nothing is lost if it did.
            drop(thread.join());
        }
    }
}

pub(super) struct Active<'a>(&'a Shared);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn tick(&self, engine: &wasmtime::Engine) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.active.load(SeqCst) > 0 {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle > LINGER_TICKS {
                self.sleep();
                idle = 0;
                continue;
            }
            thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    fn sleep(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, SeqCst);
        while self.active.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, SeqCst);
        drop(guard);
    }

    fn rouse(&self) {
        // Taking the lock means that the thread is either before its check or already waiting.
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
        drop(guard);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use wasmtime::{Config, Module, Store};

    use super::{LINGER_TICKS, TICK, Ticker};

    #[test]
    fn it_ticks_again_after_sleep_and_ends_on_drop() -> wasmtime::Result<()> {
        let engine = wasmtime::Engine::new(Config::new().epoch_interruption(true))?;
        let spin = Module::new(&engine, wat::parse_str("(module (func $f (loop (br 0))) (start $f))")?)?;
        let ticker = Ticker::start(engine.clone())?;
        for _ in 0..2 {
            // Long enough for the thread to fall asleep; a tick that does not come leaves the next lines spinning forever.
            thread::sleep(TICK * (LINGER_TICKS + 20));
            let active = ticker.enter();
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(2);
            assert!(wasmtime::Instance::new(&mut store, &spin, &[]).is_err());
            drop(active);
        }
        let shared = Arc::downgrade(&ticker.shared);
        let started = Instant::now();
        drop(ticker);
        assert_eq!(shared.strong_count(), 0, "the thread is still there");
        assert!(started.elapsed() < Duration::from_secs(5));
        Ok(())
    }
}
