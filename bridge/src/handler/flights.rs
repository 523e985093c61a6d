//! Equal questions that are under way: the second who asks waits for the answer that the first will get.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::runtime::Handle;

/// An answer that several wait for.
pub(super) type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// Questions under way, by what is asked. Each runs to its end, also when nobody waits any more.
pub(super) struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    most: usize,
    runtime: Handle,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Room for so many questions at once.
    pub(super) fn new(most: usize, runtime: Handle) -> Self {
        Self { under_way: Arc::default(), most, runtime }
    }

    /// Joins the question that is under way, or asks it; `None` when there are too many. The answer is `None` when the
    /// one who asked has broken down.
    pub(super) fn join<F>(&self, key: K, ask: impl FnOnce() -> F) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.join_on(&self.runtime, key, ask)
    }

    /// The same, asked on the runtime of the caller, if it is on one: a short question then does not change threads,
    /// which costs more than all else that is done for it.
    pub(super) fn join_here<F>(&self, key: K, ask: impl FnOnce() -> F) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let here = Handle::try_current().unwrap_or_else(|_| self.runtime.clone());
        self.join_on(&here, key, ask)
    }

    fn join_on<F>(&self, runtime: &Handle, key: K, ask: impl FnOnce() -> F) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(&key) {
            return Some(flight.clone());
        }
        if under_way.len() >= self.most {
            return None;
        }
        let (question, all, landed) = (ask(), self.under_way.clone(), key.clone());
        // A task of its own, and a guard: the question leaves the table whatever becomes of it and of those who wait.
        let task = runtime.spawn(async move {
            let _guard = Landing { all, key: landed };
            question.await
        });
        let flight = async move { task.await.ok() }.boxed().shared();
        under_way.insert(key, flight.clone());
        Some(flight)
    }
}

struct Landing<K: Eq + Hash, V: Clone> {
    all: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn equal_questions_are_asked_once_and_others_up_to_a_bound() {
        let flights: Flights<u8, usize> = Flights::new(2, Handle::current());
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (asked, go) = (asked.clone(), go.clone());
            async move {
                go.notified().await;
                asked.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let waiting: Vec<_> = (0..5).map(|_| flights.join(1, ask).unwrap()).collect();
        let other = flights.join(2, ask).unwrap();
        assert!(flights.join(3, ask).is_none());
        // One permit each, whoever comes first.
        let release = async {
            for _ in 0..2 {
                go.notify_one();
                while asked.load(Ordering::Relaxed) == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let all = futures::future::join(futures::future::join_all(waiting), other);
        let ((first, other), ()) = tokio::join!(all, release);
        assert!(first.iter().all(|answer| *answer == first[0]) && first[0] != other);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // Both have landed: there is room again.
        assert!(flights.join(3, ask).is_some());
    }

    #[tokio::test]
    async fn one_that_breaks_down_leaves_no_trace() {
        let flights: Flights<u8, u8> = Flights::new(1, Handle::current());
        let broken = flights.join(1, || async { panic!("on purpose") }).unwrap();
        assert_eq!(broken.await, None);
        assert_eq!(flights.join(2, || async { 7 }).unwrap().await, Some(7));
    }
}
