//! A request on its way: its caller waits for the answer, and so does a session that is being closed.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The client's future of an answer. It holds the client, and with that keeps the session open.
pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One request. The client sends it when its future is first polled, which is before there is a flight.
pub(super) struct Flight<T>(Mutex<Leg<T>>);

enum Leg<T> {
    Flying {
        answer: Answer<T>,
        caller: Option<Waker>,
        closer: Option<Waker>,
    },
    /// Answered; taken by the caller or not.
    Landed(Option<T>),
    /// Given up: there will be no answer.
    Lost,
}

/// A flight, whatever its answer is.
pub(super) trait Lands: Send + Sync {
    /// Ready when the answer is there, or lost.
    fn poll_landed(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Gives the answer up and lets go of the client.
    fn lose(&self);
}

impl<T> Flight<T> {
    /// Sends the request now.
    pub(super) fn start(mut answer: Answer<T>) -> Self {
        let mut context = Context::from_waker(Waker::noop());
        Self(Mutex::new(match answer.as_mut().poll(&mut context) {
            Poll::Ready(value) => Leg::Landed(Some(value)),
            Poll::Pending => Leg::Flying { answer, caller: None, closer: None },
        }))
    }

    /// The answer; `None` when it is lost.
    pub(super) async fn landed(&self) -> Option<T> {
        std::future::poll_fn(|context| self.poll_taken(context)).await
    }

    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut leg = self.leg();
        match &mut *leg {
            Leg::Flying { answer, caller, closer } => match answer.as_mut().poll(context) {
                Poll::Ready(value) => {
                    let closer = closer.take();
                    *leg = Leg::Landed(None);
                    drop(leg);
                    closer.into_iter().for_each(Waker::wake);
                    Poll::Ready(Some(value))
                }
                Poll::Pending => {
                    *caller = Some(context.waker().clone());
                    Poll::Pending
                }
            },
            Leg::Landed(value) => Poll::Ready(value.take()),
            Leg::Lost => Poll::Ready(None),
        }
    }

    fn leg(&self) -> MutexGuard<'_, Leg<T>> {
        // The client's futures do not panic half-way through a change of ours.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Lands for Flight<T> {
    fn poll_landed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut leg = self.leg();
        let Leg::Flying { answer, caller, closer } = &mut *leg else { return Poll::Ready(()) };
        match answer.as_mut().poll(context) {
            Poll::Ready(value) => {
                let caller = caller.take();
                *leg = Leg::Landed(Some(value));
                drop(leg);
                caller.into_iter().for_each(Waker::wake);
                Poll::Ready(())
            }
            Poll::Pending => {
                *closer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lose(&self) {
        let mut leg = self.leg();
        let before = match &*leg {
            Leg::Flying { .. } => std::mem::replace(&mut *leg, Leg::Lost),
            Leg::Landed(_) | Leg::Lost => return,
        };
        drop(leg);
        if let Leg::Flying { caller, closer, .. } = before {
            caller.into_iter().chain(closer).for_each(Waker::wake);
        }
    }
}
