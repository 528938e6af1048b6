//! Whose turn it is in a conversation.
//!
//! The channel calls us once for each line, and nothing but the order of its calls says which was
//! said first. So each line queues up in its conversation as soon as it is known for the channel's,
//! and is handed over when those before it were. What takes long (files) is done while it waits:
//! nobody waits longer than the slowest in front of them needs from then on.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Fair, OwnedMutexGuard};

/// The queues of the conversations in which somebody waits.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Arc<Fair<()>>>>);

/// A conversation's queue, and a part of it for as long as it is held.
pub struct Queue<'a> {
    turns: &'a Turns,
    conversation: &'a str,
    queue: Arc<Fair<()>>,
}

impl Turns {
    /// A conversation's queue.
    #[must_use]
    pub fn queue<'a>(&'a self, conversation: &'a str) -> Queue<'a> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = Arc::clone(queues.entry(conversation.to_owned()).or_default());
        Queue { turns: self, conversation, queue }
    }
}

impl Queue<'_> {
    /// Waits for the turn, and does something meanwhile. The place in the queue is taken before
    /// that begins; the turn lasts until what is answered is dropped.
    pub async fn turn_and<T>(
        &self,
        meanwhile: impl Future<Output = T>,
    ) -> (OwnedMutexGuard<()>, T) {
        let mut turn = pin!(Arc::clone(&self.queue).lock_owned());
        // Once it is polled it stands in the queue, which is fair.
        let early = futures::poll!(turn.as_mut());
        match early {
            std::task::Poll::Ready(turn) => (turn, meanwhile.await),
            std::task::Poll::Pending => tokio::join!(turn, meanwhile),
        }
    }
}

impl Drop for Queue<'_> {
    /// Forgets a queue in which nobody stands.
    fn drop(&mut self) {
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One is in the map and one is ours; new ones are made under the lock that is held.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(self.conversation);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_came_first_has_the_first_turn_however_long_it_takes_and_no_queue_is_kept() {
        let turns = Turns::default();
        let (open, slow) = tokio::sync::oneshot::channel();
        let told = Mutex::new(Vec::new());
        let say = |text: &'static str| told.lock().unwrap().push(text);
        let first = async {
            let queue = turns.queue("a:1");
            let (_turn, _) = queue.turn_and(async { slow.await.unwrap() }).await;
            say("first");
        };
        let second = async {
            let queue = turns.queue("a:1");
            let (_turn, ()) = queue.turn_and(async { say("second is ready") }).await;
            say("second");
        };
        let elsewhere = async {
            let queue = turns.queue("a:2");
            let (_turn, ()) = queue.turn_and(async {}).await;
            say("elsewhere");
            open.send(()).unwrap();
        };
        tokio::join!(biased; first, second, elsewhere);
        let wanted = ["second is ready", "elsewhere", "first", "second"];
        assert_eq!(*told.lock().unwrap(), wanted);
        assert!(turns.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_lets_the_next_one_by() {
        let turns = Turns::default();
        {
            let queue = turns.queue("a:1");
            assert!(queue.turn_and(std::future::pending::<()>()).now_or_never().is_none());
        }
        let queue = turns.queue("a:1");
        assert!(queue.turn_and(async {}).now_or_never().is_some());
        drop(queue);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
