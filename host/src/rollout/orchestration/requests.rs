//! Requests of an orchestration to the machine, and their replies.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::failure::CallFailure;
use crate::rollout::model::{Input, OrchestrationReply, OrchestrationRequest, RequestId, TargetReport};

/// The orchestration's side: sends requests and waits for their replies, one at a time.
#[derive(Debug)]
pub(in crate::rollout) struct Requests {
    inputs: mpsc::Sender<Input>,
    replies: Arc<Replies>,
    /// How many requests were sent.
    sent: u64,
}

/// The run loop's side: delivers replies.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Replies(Mutex<Option<Expected>>);

/// The reply that the orchestration waits for.
type Expected = (RequestId, oneshot::Sender<OrchestrationReply>);

impl Replies {
    /// Delivers a reply, unless the orchestration waits for it no longer.
    pub(in crate::rollout) fn deliver(&self, id: RequestId, reply: OrchestrationReply) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = expected.take_if(|(expected, _)| *expected == id) {
            // The call that waited may have timed out meanwhile.
            let _ = sender.send(reply);
        }
    }
}

impl Requests {
    /// Both sides. Requests go to the run loop with its other inputs, so that they keep their order.
    pub(in crate::rollout) fn new(inputs: mpsc::Sender<Input>) -> (Self, Arc<Replies>) {
        let replies = Arc::new(Replies::default());
        (Self { inputs, replies: Arc::clone(&replies), sent: 0 }, replies)
    }

    /// Sends a request and waits for no reply. An error: the run loop has ended.
    pub(super) async fn send(&mut self, request: OrchestrationRequest) -> Result<RequestId, CallFailure> {
        let id = RequestId::new(self.sent);
        self.sent += 1;
        self.input(Input::OrchestrationRequest { id, request }).await?;
        Ok(id)
    }

    /// Sends any other input, in order with the requests.
    pub(super) async fn input(&self, input: Input) -> Result<(), CallFailure> {
        self.inputs.send(input).await.map_err(|_| CallFailure::Lost)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Cancel safety
    /// Dropped, it is replied to no longer; what it requested holds until it is taken back.
    pub(super) async fn ask(&mut self, request: OrchestrationRequest) -> Result<OrchestrationReply, CallFailure> {
        let (sender, reply) = oneshot::channel();
        let id = RequestId::new(self.sent);
        *self.replies.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, sender));
        self.send(request).await?;
        reply.await.map_err(|_| CallFailure::Lost)
    }

    /// As [`Self::ask`], for a request that is replied to with a target's status.
    pub(super) async fn ask_status(&mut self, request: OrchestrationRequest) -> Result<TargetReport, CallFailure> {
        match self.ask(request).await? {
            OrchestrationReply::Target(report) => Ok(report),
            OrchestrationReply::Advice(_) => Err(CallFailure::Lost),
        }
    }

    /// As [`Self::ask_status`], until a deadline. `None` if that passed before.
    pub(super) async fn ask_status_until(
        &mut self,
        deadline: Option<Instant>,
        request: OrchestrationRequest,
    ) -> Result<Option<TargetReport>, CallFailure> {
        let reply = self.ask_status(request);
        match deadline {
            None => reply.await.map(Some),
            Some(deadline) => timeout_at(deadline, reply).await.map_or(Ok(None), |reply| reply.map(Some)),
        }
    }
}
