//! Who waits for a task to change.

use std::collections::BTreeMap;

use legation_core::TaskId;
use tokio::sync::watch;

/// Tasks watched at which those that nobody watches any more are swept out.
const WATCHED_SWEEP: usize = 1024;

/// Wakes whoever waits for a task.
#[derive(Default)]
pub(super) struct Changes {
    waiting: std::sync::Mutex<BTreeMap<TaskId, watch::Sender<u64>>>,
}

impl Changes {
    /// Watches a task: the value grows with every change.
    pub(super) fn watch(&self, task: TaskId) -> watch::Receiver<u64> {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Amortised: each sweep at least halves a map of the forgotten, or the map is as large as its watchers are many.
        if waiting.len() >= WATCHED_SWEEP && waiting.len().is_power_of_two() {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(task).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Wakes everybody: this manager no longer knows of changes.
    pub(super) fn wake_all(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        waiting.values().for_each(|sender| sender.send_modify(|n| *n += 1));
    }

    pub(super) fn wake(&self, task: TaskId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sender) = waiting.get(&task) {
            if sender.receiver_count() == 0 {
                waiting.remove(&task);
            } else {
                sender.send_modify(|n| *n += 1);
            }
        }
    }
}
