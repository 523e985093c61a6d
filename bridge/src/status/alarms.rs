//! What needs an operator's eye.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Alarms kept at most; more are only logged.
const MOST: usize = 1_000;

/// The alarms that stand, each under a key by which it is cleared.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<BTreeMap<String, String>>);

impl Alarms {
    /// Raises an alarm, or renews its text.
    pub fn raise(&self, key: &str, text: impl Into<String>) {
        let text = text.into();
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.get(key) == Some(&text) {
            return;
        }
        tracing::error!(alarm = %text, "alarm");
        if alarms.len() < MOST || alarms.contains_key(key) {
            alarms.insert(key.to_owned(), text);
        }
    }

    /// Takes an alarm back, if it stands.
    pub fn clear(&self, key: &str) {
        let gone = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(text) = gone {
            tracing::info!(alarm = %text, "the alarm is over");
        }
    }

    /// The texts of all alarms that stand.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
