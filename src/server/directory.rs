//! Who may speak: the sprites that are alive, by the fingerprint of their tokens.
//!
//! A webhook names its sprite only in its body, and the body is not read before we know that
//! whoever sends it may speak at all. So the directory goes from the token to the sprite. It is
//! kept in memory and follows the store by revisions: a request costs no read, unless sprites
//! have changed since the last one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::Mutex;

use super::{hub::Hub, ingest::Lane};
use crate::{
    resource::{FINALIZER_RUNTIME, Kind, Sprite},
    store::{self, ChangeKind, Revision, Store},
    token::{SpriteTokens, fingerprint, same},
};

/// How many changes or objects are read at once.
const PAGE: usize = 500;
/// How many sprites that are gone are remembered, so that their reporters hear "gone" instead
/// of "who are you?".
const REMEMBERED: usize = 4096;

/// What a sprite may still say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Everything.
    Live,
    /// It is gone, but its object is there: an original sidecar's last words may still come.
    Ended,
    /// Nothing.
    Gone,
}

/// The sprites by token.
pub(super) struct Directory {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    tokens: SpriteTokens,
    index: RwLock<Index>,
    /// The revision up to which the index is true; none before the first look.
    synced: Mutex<Option<Revision>>,
}

#[derive(Default)]
struct Index {
    lanes: HashMap<[u8; 32], Arc<Lane>>,
    gone: VecDeque<[u8; 32]>,
    live: usize,
    revision: Option<Revision>,
}

/// Who sent a request.
pub(super) enum Caller {
    /// This sprite.
    Sprite(Arc<Lane>),
    /// A sprite that is gone.
    Gone,
    /// Nobody we know.
    Stranger,
}

impl Directory {
    pub(super) fn new(store: Arc<dyn Store>, hub: Arc<Hub>, tokens: SpriteTokens) -> Self {
        Self { store, hub, tokens, index: RwLock::default(), synced: Mutex::default() }
    }

    /// Looks which sprites are alive.
    pub(super) async fn refresh(&self) -> Result<(), store::Error> {
        self.sync(self.store.revision().await?).await
    }

    /// How many sprites are alive.
    pub(super) async fn live(&self) -> Result<usize, store::Error> {
        self.refresh().await?;
        Ok(self.index.read().unwrap_or_else(PoisonError::into_inner).live)
    }

    /// Finds who holds a token. `claimed` is the uid that the request's address names, if it
    /// names one: it tells a sprite that is long gone from a stranger.
    pub(super) async fn caller(
        &self,
        token: &str,
        claimed: Option<&str>,
    ) -> Result<Caller, store::Error> {
        let key = fingerprint(token);
        self.sync(self.hub.heard()).await?;
        if let Some(lane) = self.find(&key, token) {
            return Ok(lane);
        }
        // The bell may be on its way still.
        self.sync(self.store.revision().await?).await?;
        Ok(match self.find(&key, token) {
            Some(lane) => lane,
            None if claimed.is_some_and(|uid| self.tokens.verify(uid, token)) => Caller::Gone,
            None => Caller::Stranger,
        })
    }

    fn find(&self, key: &[u8; 32], token: &str) -> Option<Caller> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let lane = index.lanes.get(key).filter(|lane| same(lane.token(), token))?;
        Some(match lane.standing() {
            Standing::Gone => Caller::Gone,
            Standing::Live | Standing::Ended => Caller::Sprite(lane.clone()),
        })
    }

    /// Brings the index up to a revision at least.
    async fn sync(&self, revision: Revision) -> Result<(), store::Error> {
        let fresh = |at: Option<Revision>| at.is_some_and(|at| at >= revision);
        if fresh(self.index.read().unwrap_or_else(PoisonError::into_inner).revision) {
            return Ok(());
        }
        let mut synced = self.synced.lock().await;
        if fresh(*synced) {
            return Ok(());
        }
        let at = match *synced {
            Some(at) => match self.follow(at).await {
                Err(store::Error::Compacted { .. }) => self.load().await?,
                other => other?,
            },
            None => self.load().await?,
        };
        let at = at.max(revision);
        *synced = Some(at);
        self.index.write().unwrap_or_else(PoisonError::into_inner).revision = Some(at);
        Ok(())
    }

    /// Reads all sprites.
    async fn load(&self) -> Result<Revision, store::Error> {
        let mut sprites = Vec::new();
        let mut revision = None;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(Kind::Sprite, after.as_deref(), PAGE).await?;
            // What changed while the later pages were read is followed from the first one on.
            revision.get_or_insert(page.revision);
            sprites.extend(page.items.into_iter().filter_map(|object| object.into_sprite()));
            after = sprites.last().map(|sprite: &Sprite| sprite.metadata.name.clone());
            if !page.more {
                break;
            }
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<_> = index.lanes.values().cloned().collect();
        let there: HashSet<&str> =
            sprites.iter().map(|sprite| sprite.metadata.uid.as_str()).collect();
        for lane in known {
            if !there.contains(lane.uid()) {
                index.mark(&lane, Standing::Gone);
            }
        }
        for sprite in &sprites {
            index.note(&self.tokens, sprite, standing(sprite));
        }
        Ok(revision.unwrap_or_default())
    }

    /// Reads what changed.
    async fn follow(&self, mut at: Revision) -> Result<Revision, store::Error> {
        loop {
            let changes = self.store.changes(at, PAGE).await?;
            let last = changes.len() < PAGE;
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                at = at.max(change.revision);
                let Some(sprite) = change.object.into_sprite() else { continue };
                let standing = match change.kind {
                    ChangeKind::Deleted => Standing::Gone,
                    ChangeKind::Added | ChangeKind::Modified => standing(&sprite),
                };
                index.note(&self.tokens, &sprite, standing);
            }
            if last {
                return Ok(at);
            }
        }
    }
}

fn standing(sprite: &Sprite) -> Standing {
    if sprite.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_RUNTIME) {
        Standing::Live
    } else {
        Standing::Ended
    }
}

impl Index {
    /// Notes how a sprite stands.
    fn note(&mut self, tokens: &SpriteTokens, sprite: &Sprite, standing: Standing) {
        let token = tokens.derive(&sprite.metadata.uid);
        let key = fingerprint(&token);
        if let Some(lane) = self.lanes.get(&key).cloned() {
            self.mark(&lane, standing);
        } else if standing != Standing::Gone {
            let lane = Arc::new(Lane::new(&sprite.metadata, token, standing));
            self.live += usize::from(standing == Standing::Live);
            self.lanes.insert(key, lane);
        }
    }

    fn mark(&mut self, lane: &Lane, standing: Standing) {
        let before = lane.standing();
        if before == standing || before == Standing::Gone {
            return;
        }
        lane.stand(standing);
        match (before, standing) {
            (Standing::Live, _) => self.live -= 1,
            (_, Standing::Live) => self.live += 1,
            _ => {}
        }
        if standing == Standing::Gone {
            self.gone.push_back(fingerprint(lane.token()));
            if self.gone.len() > REMEMBERED
                && let Some(oldest) = self.gone.pop_front()
            {
                self.lanes.remove(&oldest);
            }
        }
    }
}
