//! What the session tells a running execution beside its inputs: never waits, so a full queue delays no cancel.
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::limits;
use crate::proto::ExecutionErrorCode as Code;

/// Why an execution has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    credit: u64,
    stop: Option<Failure>,
}

/// Orders to an execution.
#[derive(Debug, Default)]
pub struct Orders {
    state: Mutex<State>,
    changed: Notify,
}

impl Orders {
    pub fn new() -> Orders {
        let orders = Orders::default();
        orders.add_credit(limits::INITIAL_CREDIT_BYTES.into());
        orders
    }

    /// Ends the execution; the first order counts.
    pub fn stop(&self, reason: Failure) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stop.get_or_insert(reason);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Allows more output.
    pub fn add_credit(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credit = state
            .credit
            .saturating_add(bytes)
            .min(limits::CREDIT_BYTES_MAX);
        drop(state);
        self.changed.notify_waiters();
    }

    async fn wait<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) =
                check(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
            {
                return found;
            }
            changed.await;
        }
    }

    /// Waits for an order to end.
    pub async fn stopped(&self) -> Failure {
        self.wait(|state| state.stop.clone()).await
    }

    /// Takes between one byte and `wanted` of credit.
    pub async fn take_credit(&self, wanted: usize) -> usize {
        self.wait(|state| {
            let granted = state.credit.min(wanted as u64);
            state.credit -= granted;
            (granted > 0).then_some(granted as usize)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn credit_is_taken_as_far_as_it_reaches() {
        let orders = Orders::new();
        let initial = limits::INITIAL_CREDIT_BYTES as usize;
        assert_eq!(orders.take_credit(initial - 1).await, initial - 1);
        assert_eq!(orders.take_credit(100).await, 1);
        let (taken, ()) = tokio::join!(orders.take_credit(100), async { orders.add_credit(7) });
        assert_eq!(taken, 7);
        orders.add_credit(u64::MAX);
        orders.add_credit(u64::MAX);
        assert_eq!(orders.take_credit(100).await, 100);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_order_to_stop_counts() {
        let orders = Orders::new();
        let first = Failure::new(Code::Cancelled, "a");
        orders.stop(first.clone());
        orders.stop(Failure::new(Code::Invalid, "b"));
        assert_eq!(orders.stopped().await, first);
    }
}
