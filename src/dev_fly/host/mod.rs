//! The hosts: what runs guests, and tells the world how they ended.
//!
//! Each boot is one task with one channel of orders. The world boots a machine only after it
//! heard that the boot before has ended, so a machine has one guest at most; `guests` holds the
//! way to it.

mod files;
mod process;
mod scripted;
mod tree;
mod watcher;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use self::files::Files;
pub(super) use self::watcher::Watcher;
use super::{
    config::{Exit, Guest},
    shared::Shared,
    truth::Found,
    world::{
        BootWish, Effect, Volume,
        reply::{Answer, ExecWish},
    },
};

/// What a guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Signal(i32),
    Kill,
    Freeze,
    Thaw,
}

#[derive(Clone)]
struct Running {
    orders: mpsc::UnboundedSender<Order>,
    env: BTreeMap<String, String>,
    /// Whether its first process runs, and its directory is there.
    is_up: watch::Receiver<bool>,
}

pub(super) struct Host {
    files: Arc<Files>,
    guest: Guest,
    handle: Handle,
    guests: Mutex<HashMap<String, Running>>,
    /// How many guests run: who ends the fake waits for none.
    count: watch::Sender<usize>,
}

impl Host {
    /// Takes a directory over, and says what lay there.
    pub(super) fn open(
        dir: PathBuf,
        guest: Guest,
        instance: String,
    ) -> Result<(Self, Vec<Volume>, Found), super::Error> {
        let (files, volumes, found) = Files::open(dir, instance)?;
        let host = Self {
            files: Arc::new(files),
            guest,
            handle: Handle::current(),
            guests: Mutex::default(),
            count: watch::Sender::new(0),
        };
        Ok((host, volumes, found))
    }

    pub(super) fn watcher(&self) -> Option<Watcher> {
        match self.guest {
            Guest::Processes { .. } => Watcher::start(&self.files),
            Guest::Scripted(_) => None,
        }
    }

    /// Does what the world wants. Does not wait.
    pub(super) fn act(&self, shared: &Arc<Shared>, effect: Effect) {
        match effect {
            Effect::Boot(wish) => self.boot(shared, *wish),
            Effect::Signal { id, signal } => self.order(&id, Order::Signal(signal)),
            Effect::Kill { id } => self.order(&id, Order::Kill),
            Effect::Freeze { id } => self.order(&id, Order::Freeze),
            Effect::Thaw { id } => self.order(&id, Order::Thaw),
            Effect::Wipe { id } => self.files.later(files::Job::Wipe(id)),
            Effect::WipeVolume { id } => self.files.later(files::Job::WipeVolume(id)),
            Effect::SaveVolumes(volumes) => self.files.later(files::Job::Save(volumes)),
        }
    }

    fn order(&self, id: &str, order: Order) {
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = guests.get(id) {
            // Who is gone already needs no order.
            let _ = guest.orders.send(order);
        }
    }

    fn boot(&self, shared: &Arc<Shared>, mut wish: BootWish) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (up, is_up) = watch::channel(false);
        self.files.environment(&mut wish);
        let running = Running { orders, env: wish.env.clone(), is_up };
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.insert(wish.id.clone(), running);
        self.count.send_modify(|count| *count += 1);
        let (files, guest) = (Arc::clone(&self.files), self.guest.clone());
        let shared = Arc::clone(shared);
        self.handle.spawn(async move {
            let (id, boot) = (wish.id.clone(), wish.boot);
            let exit = match guest {
                Guest::Processes { reporter } => {
                    process::run(&files, &reporter, wish, ordered, &up).await
                }
                Guest::Scripted(script) => scripted::run(&files, &script, wish, ordered).await,
            };
            shared.host.ended(&shared, &id, boot, exit);
        });
    }

    fn ended(&self, shared: &Arc<Shared>, id: &str, boot: u32, exit: Exit) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        shared.with(|world, now| world.exited(id, boot, exit, now));
        self.count.send_modify(|count| *count -= 1);
    }

    /// Runs a command in a machine.
    pub(super) async fn exec(&self, shared: &Arc<Shared>, wish: ExecWish) -> Answer {
        let running =
            self.guests.lock().unwrap_or_else(PoisonError::into_inner).get(&wish.id).cloned();
        let Some(mut running) = running else { return Answer::exec_timeout() };
        match self.guest {
            Guest::Scripted(_) => Answer::exec(127, 0, "", "a scripted guest runs no commands\n"),
            Guest::Processes { .. } => {
                // An error: it never came up.
                let up = running.is_up.wait_for(|is_up| *is_up).await.is_ok();
                if !up {
                    return Answer::exec_timeout();
                }
                let root = self.files.root(&wish.id);
                process::exec(root, running.env, wish, &*shared.ambient.clock).await
            }
        }
    }

    /// Kills every guest, and waits until none runs.
    pub(super) async fn clear(&self) {
        for guest in self.guests.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = guest.orders.send(Order::Kill);
        }
        let mut count = self.count.subscribe();
        // The sender is ours.
        let _ = count.wait_for(|count| *count == 0).await;
        self.files.settled().await;
    }

    /// How many guests run.
    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }
}
