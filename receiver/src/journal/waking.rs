use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::Position;
use super::append::AppendError;

/// Whoever wants to know of an entry.
pub(super) type Waiter = oneshot::Sender<Result<Position, AppendError>>;

/// Tells those who wait that their entries are durable: a block at a time, from within the runtime that they wait in.
///
/// Told by the writer's thread, each of them would wake the runtime by a system call, where cores are busy take the
/// processor from the writer at once, and let the runtime fall asleep before the next one is told: three times for a
/// block of 45 entries.
pub(super) struct Waking(Option<UnboundedSender<Durable>>);

/// A block that is, and who waits for its entries, in their order.
struct Durable {
    first: Position,
    waiters: Vec<Waiter>,
}

impl Waking {
    /// Without a runtime around it, whoever tells does all of it.
    pub(super) fn new() -> Self {
        let runtime = Handle::try_current().ok();
        Self(runtime.map(|runtime| {
            // Holds no more than what waits: an entry each of the callbacks that are being answered.
            let (sender, blocks) = mpsc::unbounded_channel();
            runtime.spawn(tell_each(blocks));
            sender
        }))
    }

    /// The entries from `first` on are durable.
    pub(super) fn tell(&self, first: Position, waiters: Vec<Waiter>) {
        let durable = Durable { first, waiters };
        match &self.0 {
            Some(sender) => {
                if let Err(unsent) = sender.send(durable) {
                    unsent.0.tell();
                }
            }
            None => durable.tell(),
        }
    }
}

async fn tell_each(mut blocks: UnboundedReceiver<Durable>) {
    while let Some(durable) = blocks.recv().await {
        durable.tell();
    }
}

impl Durable {
    fn tell(self) {
        for (position, waiter) in (self.first..).zip(self.waiters) {
            let _ = waiter.send(Ok(position)); // the caller's deadline may have passed
        }
    }
}
