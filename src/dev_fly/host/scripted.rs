//! A guest that a test plays.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Order, files::Files};
use crate::dev_fly::{
    config::{BootContext, Exit, Script, StopAsked},
    world::BootWish,
};

/// Plays a boot to its end. The guest is told of signals and dropped by a kill.
pub(super) async fn run(
    files: &Arc<Files>,
    script: &Script,
    wish: BootWish,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Exit {
    let (stop, asked) = watch::channel(None);
    let root = files.root(&wish.id);
    let mut guest = script(BootContext {
        machine: wish.id,
        name: wish.name,
        boot: wish.boot,
        env: wish.env,
        config: wish.config,
        root,
        stop: StopAsked(asked),
    });
    let mut is_frozen = false;
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Signal(9) | Order::Kill) | None => return Exit::signal(9),
                Some(Order::Signal(signal)) => {
                    // Nobody may be listening.
                    let _ = stop.send(Some(signal));
                }
                Some(Order::Freeze) => is_frozen = true,
                Some(Order::Thaw) => is_frozen = false,
            },
            exit = &mut guest, if !is_frozen => return exit,
        }
    }
}
